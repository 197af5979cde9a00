"""Doors: a policy, what the camera and the person give, and a lease that opens once.

The rest of edgeface says who somebody is. Whether a door opens is decided here, by one pure
function over every condition of a policy, and answered with a lease that the lock checks. Whatever
is broken, missing or unclear keeps the door closed. The way out never passes through software.

docs/access.md explains the rules, docs/threat-model.md what they do not stop.
"""

from __future__ import annotations

from edgeface.access.answers import AccessAnswer, DoorStatus, FactorAnswer
from edgeface.access.audit import AuditLog
from edgeface.access.audit_check import AuditHead, AuditReport, read_records, verify_audit
from edgeface.access.clock import DoorClocks, WallWatch, boot_id, uptime_s, utc_now
from edgeface.access.conditions import Condition
from edgeface.access.controller import AccessController
from edgeface.access.decide import AccessDecision, decide
from edgeface.access.events import AccessEvent, AccessEventKind
from edgeface.access.factor_edit import edit_factors
from edgeface.access.facts import recognizer_facts
from edgeface.access.guarded_file import read_guarded
from edgeface.access.keys import AccessKeys
from edgeface.access.lease import MAX_LEASE_S, Lease, LeaseVerifier, new_nonce, sign_lease
from edgeface.access.lockout import Lockout
from edgeface.access.options import ControllerOptions, Nonce
from edgeface.access.policy import (
    ALWAYS,
    AccessPolicy,
    EvidenceRule,
    FactorRule,
    LockoutRule,
    Permit,
)
from edgeface.access.policy_file import parse_policy
from edgeface.access.schedule import Schedule
from edgeface.access.second_factor import FactorStore, ScryptCost
from edgeface.access.values import (
    AccessInputs,
    AccessState,
    FactorKind,
    FrameEvidence,
    ModelFacts,
    VerifiedFactor,
    WallTime,
)

__all__ = [
    "ALWAYS",
    "MAX_LEASE_S",
    "AccessAnswer",
    "AccessController",
    "AccessDecision",
    "AccessEvent",
    "AccessEventKind",
    "AccessInputs",
    "AccessKeys",
    "AccessPolicy",
    "AccessState",
    "AuditHead",
    "AuditLog",
    "AuditReport",
    "Condition",
    "ControllerOptions",
    "DoorClocks",
    "DoorStatus",
    "EvidenceRule",
    "FactorAnswer",
    "FactorKind",
    "FactorRule",
    "FactorStore",
    "FrameEvidence",
    "Lease",
    "LeaseVerifier",
    "Lockout",
    "LockoutRule",
    "ModelFacts",
    "Nonce",
    "Permit",
    "Schedule",
    "ScryptCost",
    "VerifiedFactor",
    "WallTime",
    "WallWatch",
    "boot_id",
    "decide",
    "edit_factors",
    "new_nonce",
    "parse_policy",
    "read_guarded",
    "read_records",
    "recognizer_facts",
    "sign_lease",
    "uptime_s",
    "utc_now",
    "verify_audit",
]
