"""AWS's partitions (pure): each has regions, domains, accounts and buckets of its own.

A bucket's name is one bucket's within a partition, so the same name in another one is another bucket.

References: AWS Fault Isolation Boundaries, "Partitions"; the partitions' metadata of AWS's SDKs (partitions.json);
Amazon S3 User Guide, "Namespaces for general purpose buckets".
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition: its name, what its regions' names begin with, and the domain of its hosts."""

    name: str
    regions: str
    domain: str


PUBLIC: Final = Partition("aws", "", "amazonaws.com")
OTHERS: Final = (
    Partition("aws-us-gov", "us-gov-", "amazonaws.com"),
    Partition("aws-cn", "cn-", "amazonaws.com.cn"),
    Partition("aws-eusc", "eusc-", "amazonaws.eu"),
    Partition("aws-iso", "us-iso-", "c2s.ic.gov"),
    Partition("aws-iso-b", "us-isob-", "sc2s.sgov.gov"),
    Partition("aws-iso-e", "eu-isoe-", "cloud.adc-e.uk"),
    Partition("aws-iso-f", "us-isof-", "csp.hci.ic.gov"),
)
DOMAINS: Final = tuple(dict.fromkeys(partition.domain for partition in (PUBLIC, *OTHERS)))


def partition_of(region: str) -> Partition:
    """The partition that a region is in; the public one for a region that is not known here."""
    return next((one for one in OTHERS if region.lower().startswith(one.regions)), PUBLIC)
