"""The documentation as a site that needs neither a server nor a network: `script/docs` builds it into `.site/`."""
