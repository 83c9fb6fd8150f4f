"""For whoever receives Embarc's webhooks: verify, then trust. Standard library only."""

from embarc.receiver.verification import Reason, VerificationError, Verified, verify

__all__ = ["Reason", "VerificationError", "Verified", "verify"]
