"""Thirty secrets, made up in the shapes that real ones have, and how each may stand in a text."""

import json
from typing import NamedTuple

_KEY = (
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAplantedplantedplanted\nq83vplantedEND00\n"
    "-----END RSA PRIVATE KEY-----"
)


class Secret(NamedTuple):
    """What must not be found, and a text that holds it."""

    secret: str
    text: str


def _alone(secret: str) -> Secret:
    return Secret(secret, f"it says {secret} there")


SECRETS = (
    *map(
        _alone,
        (
            "AKIAPLANTED00000KEY1",
            "ASIAPLANTED00000KEY2",
            "ghp_plantedPlantedPlanted0123456789abcd",
            "gho_plantedPlantedPlanted0123456789efgh",
            "github_pat_11PLANTED0planted_PlantedPlanted0123",
            "glpat-planted0Planted0Plant1",
            "sk-plantedPlantedPlanted0123456789ab",
            "sk-ant-api03-plantedPlanted_0123456789-cdef",
            "sk_live_plantedPlanted0123456789",
            "AIzaSyPlantedPlanted0123456789plantedAB",
            "hf_plantedPlantedPlantedPlanted01234",
            "npm_plantedPlantedPlantedPlanted0123456",
            "xoxb-1234567890-plantedPlanted01",
            "SG.planted0Planted0Plante.planted0Planted0planted0Planted0planted0abc",
            "eyJwbGFudGVkIjoxfQ.eyJzdWIiOiJwbGFudGVkIn0.cGxhbnRlZFNpZ25hdHVyZTAx",
            "1234567890:AAplantedPlantedPlanted0123456789ab",
            _KEY,
        ),
    ),
    Secret("cGxhbnRlZFRva2VuMDEyMzQ1", "Authorization: Bearer cGxhbnRlZFRva2VuMDEyMzQ1"),
    Secret("cGxhbnRlZDpwbGFudGVkMDE=", "authorization: basic cGxhbnRlZDpwbGFudGVkMDE="),
    Secret("plant3d-pg-pass", "postgresql://shop:plant3d-pg-pass@db.internal:5432/shop"),
    Secret("plant3dRedisPass", "redis://:plant3dRedisPass@cache:6379/0"),
    Secret("planted-hunter", 'config: {"password": "planted-hunter", "user": "shop"}'),
    Secret("plantedhunter22", "DB_PASSWORD=plantedhunter22 make up"),
    Secret("plantedPassphrase", "passphrase='plantedPassphrase'"),
    Secret("plantedline", "user: shop\npassword: plantedline\nhost: db"),
    Secret(
        "wJalrPLANTED/K7MDENG+bPxRfiCYplantedKEY0", "aws_secret_access_key = wJalrPLANTED/K7MDENG+bPxRfiCYplantedKEY0"
    ),
    Secret("plantedNamed0123456789", 'api_key: "plantedNamed0123456789"'),
    Secret("planted option 77", '{"client_secret": "planted option 77"}'),
    Secret('planted "quoted" \\ value\n1', 'the variable is planted "quoted" \\ value\n1 and more'),
    Secret("CUSTOMER-PLANTED-4711", "see CUSTOMER-PLANTED-4711"),
)
ENVIRONMENT = {"SHOP_API_TOKEN": 'planted "quoted" \\ value\n1', "SHOP_HOME": "/srv/shop"}
PATTERNS = (r"CUSTOMER-[A-Z]+-\d{4}",)


def spellings(secret: str) -> tuple[str, ...]:
    """Return what to look for: the secret as it is, and as JSON spells it."""
    return tuple({secret, json.dumps(secret)[1:-1]})
