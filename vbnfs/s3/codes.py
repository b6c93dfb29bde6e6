"""What S3's error codes mean: the class of the error, the cause in words, and what to do about it (pure).

docs/s3-replies.md has this table for users. A code that is not in it means what its status means (`of_status`).
Codes that only requests get that write or configure something are left out.

References: Amazon S3 API Reference, "Error responses" (general, Object Lambda, access points); RFC 9110 (15,
statuses), RFC 6585 (511), RFC 7725 (451). A few codes are those of compatible servers: Ceph, MinIO, Google, Huawei.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from vbnfs.errors import (
    AccessDeniedError,
    ArchivedError,
    BadReplyError,
    BusyError,
    ChangedError,
    MismatchError,
    MovedError,
    NoBucketError,
    ObjectGoneError,
    StorageError,
)


@dataclass(frozen=True, slots=True)
class Meaning:
    """The class of the error, the cause in words, and a remedy, if it is another one than the class's."""

    kind: type[StorageError]
    cause: str
    remedy: str | None = None

    @property
    def what_to_do(self) -> str:
        """Its remedy, or the class's."""
        return self.remedy or self.kind.remedy


_ASK_THE_OWNER: Final = "ask the bucket's owner, or read a copy (--mirror, or --endpoint-url)"
_CHECK_THE_GATEWAY: Final = "check the proxy variables, and what serves --endpoint-url: vbnfs signs no request"

DENIED: Final = Meaning(AccessDeniedError, "the bucket does not allow anonymous reading of this, or does not have it")
UNSIGNED: Final = Meaning(AccessDeniedError, "the server wants signed requests, and vbnfs signs none", _ASK_THE_OWNER)
CREDENTIALS: Final = Meaning(
    AccessDeniedError, "credentials that a proxy or a gateway adds are refused", _CHECK_THE_GATEWAY
)
CLOCK: Final = Meaning(
    AccessDeniedError,
    "the clock of this machine, or of a gateway that signs requests, is wrong",
    "set the clock (timedatectl set-ntp true), and try again",
)
ACCOUNT: Final = Meaning(
    AccessDeniedError, "the account of the bucket's owner is in trouble, or access is switched off", _ASK_THE_OWNER
)
REQUESTER_PAYS: Final = Meaning(
    AccessDeniedError,
    "the bucket's readers have to pay (Requester Pays), which anonymous readers cannot",
    "copy the bucket with an account of yours, and name the copy by --endpoint-url, or as a --mirror",
)
ENCRYPTED: Final = Meaning(
    AccessDeniedError, "the key that encrypts the object cannot be used by anonymous readers", _ASK_THE_OWNER
)
NETWORK: Final = Meaning(
    AccessDeniedError, "the bucket's region does not serve this network", "read a copy (--mirror, or --endpoint-url)"
)
ARCHIVED: Final = Meaning(ArchivedError, "the object is in an archive, and cannot be read before it is restored")
RESTORING: Final = Meaning(
    ArchivedError,
    "the object is being restored from an archive, which takes hours",
    "try again in some hours, or read it in another dataset version, or from a mirror (--mirror)",
)
MOVED: Final = Meaning(MovedError, "the bucket is in another region, or has another address")
NO_BUCKET: Final = Meaning(NoBucketError, "there is no such bucket")
NO_ACCESS_POINT: Final = Meaning(
    NoBucketError,
    "there is no such access point",
    "name the bucket itself by --bucket, or the access point's alias as a --mirror",
)
LAMBDA: Final = Meaning(
    BadReplyError,
    "an Object Lambda access point answers, which does not serve objects as they are stored",
    "name the bucket itself by --bucket",
)
GONE: Final = Meaning(ObjectGoneError, "S3 does not have this (any more)")
DELETED: Final = Meaning(ObjectGoneError, "the object was deleted: a delete marker stands in its place")
REPLACED: Final = Meaning(
    ChangedError, "the object was replaced since it was listed, and has no version id of its own"
)
SHORTER: Final = Meaning(ChangedError, "the object ends before a range within the size that was listed")
OVERLOADED: Final = Meaning(BusyError, "the server is overloaded, and asks for fewer requests")
FAILING: Final = Meaning(
    BusyError, "the server has failed, which mostly passes", "try again later: the trouble is the server's"
)
DAMAGED: Final = Meaning(
    MismatchError,
    "the request was changed on its way",
    "check --endpoint-url and the proxy variables: something on the way changes requests",
)
NOT_MODIFIED: Final = Meaning(
    MismatchError, "a cache on the way answers as if this were known already, though nothing was said of that"
)
TRANSFORMED: Final = Meaning(
    MismatchError,
    "a proxy says that it has changed what the server sent",
    "leave the proxy out (NO_PROXY), or have its operator let this server's replies through as they are",
)
REDIRECTED: Final = Meaning(MismatchError, "the server points elsewhere")
WHOLE: Final = Meaning(
    MismatchError,
    "the server ignores Range and sends the whole object",
    "check --endpoint-url and the proxy variables: a server or a proxy that serves ranges is needed for large files",
)
UNFIT: Final = Meaning(BadReplyError, "the server does not take requests of this kind")
BAD_REQUEST: Final = Meaning(BadReplyError, "the server does not understand the request")
WANTS_TLS: Final = Meaning(
    BadReplyError,
    "the server speaks TLS at this port, and was asked in plain HTTP",
    "write https:// in --endpoint-url",
)
LONG_NAME: Final = Meaning(
    BadReplyError,
    "the server does not take a name as long as this",
    "check --project, and what serves --endpoint-url",
)
LOGIN: Final = Meaning(
    MismatchError, "this network wants a log-in before it lets anything through", "log in to the network (a browser)"
)
PROXY_LOGIN: Final = Meaning(
    BadReplyError,
    "the proxy wants a user and a password",
    "write them into the proxy variable: HTTPS_PROXY=http://user:password@proxy:port",
)

TABLE: Final[tuple[tuple[Meaning, str], ...]] = (
    (DENIED, "AccessDenied AccessForbidden Forbidden"),
    (UNSIGNED, "MissingAuthenticationToken MissingSecurityHeader MissingSecurityElement Unauthorized"),
    (CREDENTIALS, "InvalidAccessKeyId SignatureDoesNotMatch InvalidSignature InvalidSecurity InvalidToken"),
    (
        CREDENTIALS,
        "ExpiredToken TokenRefreshRequired TokenCodeInvalidError UnsupportedSignature CredentialsNotSupported",
    ),
    (CREDENTIALS, "AuthorizationHeaderMalformed AuthorizationQueryParametersError InvalidSessionException"),
    (CREDENTIALS, "RequestExpired InvalidAddressingHeader"),
    (CLOCK, "RequestTimeTooSkewed RequestInTheFuture"),
    (ACCOUNT, "AccountProblem AllAccessDisabled NotSignedUp InvalidPayer UserSuspended"),
    (REQUESTER_PAYS, "RequestPaymentRequired RequestPayerDenied UserProjectMissing"),
    (ENCRYPTED, "KMS.DisabledException KMS.InvalidKeyUsageException KMS.KMSInvalidStateException"),
    (ENCRYPTED, "KMS.NotFoundException"),
    (NETWORK, "UnauthorizedAccessError UnexpectedIPError InvalidRegion"),
    (ARCHIVED, "InvalidObjectState ObjectNotInActiveTierError"),
    (RESTORING, "RestoreAlreadyInProgress"),
    (MOVED, "PermanentRedirect PermanentRedirectControlError IncorrectEndpoint EndpointNotFound"),
    (MOVED, "IllegalLocationConstraintException InvalidHostHeader"),
    (REDIRECTED, "TemporaryRedirect Redirect"),
    (NO_BUCKET, "NoSuchBucket InvalidBucketName"),
    (NO_ACCESS_POINT, "NoSuchAccessPoint InvalidAccessPoint InvalidAccessPointAliasError"),
    (NO_ACCESS_POINT, "NoSuchMultiRegionAccessPoint"),
    (LAMBDA, "NoTransformationDefined ConnectionClosedByRequester ResponseInterrupted LambdaInvalidResponse"),
    (LAMBDA, "LambdaInvocationFailed LambdaNotFound LambdaPermissionError LambdaResponseNotReceived"),
    (LAMBDA, "LambdaRuntimeError LambdaTimeout"),
    (GONE, "NoSuchKey NoSuchVersion"),
    (REPLACED, "PreconditionFailed"),
    (SHORTER, "InvalidRange"),
    (NOT_MODIFIED, "NotModified"),
    (OVERLOADED, "SlowDown TooManyRequests Throttling ThrottlingException RequestLimitExceeded"),
    (OVERLOADED, "BandwidthLimitExceeded"),
    (FAILING, "InternalError ServiceUnavailable RequestTimeout OperationAborted ConditionalRequestConflict"),
    (DAMAGED, "BadDigest InvalidDigest IncompleteBody XAmzContentSHA256Mismatch"),
    (UNFIT, "MethodNotAllowed InvalidHttpMethod NotImplemented NotSupported UnsupportedArgument UnexpectedContent"),
    (UNFIT, "InvalidBucketState DeviceNotActiveError NotDeviceOwnerError"),
    (BAD_REQUEST, "InvalidArgument InvalidRequest InvalidURI MalformedXML MaxMessageLengthExceeded"),
    (LONG_NAME, "KeyTooLongError RequestHeaderSectionTooLarge MetadataTooLarge"),
)
MEANINGS: Final[Mapping[str, Meaning]] = {code: meaning for meaning, codes in TABLE for code in codes.split()}

_OF_A_RANGE: Final[Mapping[int, Meaning]] = {200: WHOLE, 416: SHORTER}
_BY_STATUS: Final[Mapping[int, Meaning]] = {
    203: TRANSFORMED,
    304: NOT_MODIFIED,
    **dict.fromkeys((402, 403, 451), DENIED),
    401: UNSIGNED,
    **dict.fromkeys((404, 410), GONE),
    407: PROXY_LOGIN,
    412: REPLACED,
    414: LONG_NAME,
    421: replace(REDIRECTED, cause="another server is responsible"),
    431: LONG_NAME,
    **dict.fromkeys((408, 425), FAILING),
    **dict.fromkeys((429, 503), OVERLOADED),
    501: UNFIT,
    505: UNFIT,
    511: LOGIN,
}


def of_status(status: int, *, expected: int) -> Meaning:
    """What a status means where no code says more; `expected` is the one that was asked for."""
    if expected == 206 and status in _OF_A_RANGE:
        return _OF_A_RANGE[status]
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 300 <= status < 400:
        return REDIRECTED
    if status >= 500:
        return FAILING
    return Meaning(BadReplyError, f"{expected} was expected")
