"""Python environments: staged beside, checked against RECORD, sealed under the digest of their inputs."""
