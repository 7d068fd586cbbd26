"""The programs among the examples, each with a stand-in for the tool it calls, which fails when it is called in another way."""
import datetime
import importlib.util
import json
import os
import subprocess
import urllib.parse

import pytest

from harness import *

SCRIPTS = os.path.join(TOP, "conf", "examples")
STUB = """#!/usr/bin/python3
import sys
want = %r
if sys.argv[1:] != want:
    sys.exit("%s was called with %%r" %% sys.argv[1:])
sys.stdout.write(%r)
sys.exit(%d)
"""


def stub(rig, name, want, answer, code=0):
    os.makedirs(rig.path("bin"), exist_ok=True)
    path = rig.path("bin/" + name)
    with open(path, "w") as f:
        f.write(STUB % (want, name, answer if isinstance(answer, str) else json.dumps(answer), code))
    os.chmod(path, 0o755)


def run(rig, script, *args):
    return subprocess.run([os.path.join(SCRIPTS, script)] + list(args), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=30, env={"PATH": rig.path("bin") + ":/usr/bin:/bin"})


def document(rig, script, *args):
    r = run(rig, script, *args)
    assert r.returncode == 0 and not r.stderr, r
    return json.loads(r.stdout)


VAULT = ["read", "-format=json", "database/creds/cache"]


@pytest.mark.parametrize("answer,want", [
    ({"lease_id": "database/creds/cache/x", "lease_duration": 3600, "data": {"username": "v-1", "password": "CANARY"}},
     {"username": "v-1", "password": "CANARY", "expires_in": 3600}),
    ({"lease_id": "", "lease_duration": 0, "data": {"username": "cache", "password": "CANARY", "ttl": 86000, "rotation_period": 86400}},
     {"username": "cache", "password": "CANARY", "expires_in": 86000}),
    ({"lease_id": "", "lease_duration": 2764800, "data": {"password": "CANARY"}}, {"password": "CANARY"}),
    ({"lease_id": "", "lease_duration": 0, "data": {"data": {"username": "kv", "password": "CANARY"}, "metadata": {"version": 3}}},
     {"username": "kv", "password": "CANARY"}),
], ids=["dynamic", "static", "kv-1", "kv-2"])
def test_vault(rig, answer, want):
    stub(rig, "vault", VAULT, answer)
    assert document(rig, "credential-vault.py", "database/creds/cache") == want


def test_azure(rig):
    stub(rig, "az", ["account", "get-access-token", "--scope", "https://redis.azure.com/.default", "--output", "json"],
         {"accessToken": "CANARY", "expiresOn": "2026-08-23 12:00:00.000000", "expires_on": 1787479200, "tokenType": "Bearer"})
    assert document(rig, "credential-azure-entra.py", "0000-1111") == {
        "username": "0000-1111", "password": "CANARY", "expires_at": 1787479200}


def aws_module():
    spec = importlib.util.spec_from_file_location("aws", os.path.join(SCRIPTS, "credential-aws-elasticache.py"))
    m = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode = True
    spec.loader.exec_module(m)
    return m


def test_aws_signature():
    """The worked example of the description of presigned requests (Signature Version 4, query parameters)."""
    got = aws_module().sign("examplebucket.s3.amazonaws.com", "/test.txt", {"X-Amz-Expires": 86400},
                            {"AccessKeyId": "AKIAIOSFODNN7EXAMPLE", "SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"},
                            "us-east-1", "s3", datetime.datetime(2013, 5, 24), "UNSIGNED-PAYLOAD")
    assert got.endswith("&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


def test_aws(rig):
    keys = {"Version": 1, "AccessKeyId": "AKIAEXAMPLE", "SecretAccessKey": "CANARY", "SessionToken": "a/b+c=", "Expiration": "x"}
    stub(rig, "aws", ["configure", "export-credentials", "--format", "process"], keys)
    for more in ([], ["--serverless"]):
        d = document(rig, "credential-aws-elasticache.py", "app", "my-cache", "eu-central-1", *more)
        assert d["username"] == "app" and d["expires_in"] == 900 and "CANARY" not in d["password"]
        where, query = d["password"].split("?")
        q = dict(urllib.parse.parse_qsl(query, strict_parsing=True))
        assert where == "my-cache/" and q["Action"] == "connect" and q["User"] == "app" and q["X-Amz-Expires"] == "900"
        assert q["X-Amz-Security-Token"] == "a/b+c=" and ("ResourceType" in q) == bool(more)
        assert q["X-Amz-Credential"].endswith("/eu-central-1/elasticache/aws4_request") and len(q["X-Amz-Signature"]) == 64
        now = datetime.datetime.now(datetime.timezone.utc)
        at = datetime.datetime.strptime(q["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
        assert abs((now - at).total_seconds()) < 60


# A tool that fails, or says something else, must not become a credential.
@pytest.mark.parametrize("tool,script,args", [
    ("vault", "credential-vault.py", ["database/creds/cache"]),
    ("az", "credential-azure-entra.py", ["id"]),
    ("aws", "credential-aws-elasticache.py", ["app", "my-cache", "eu-central-1"])])
def test_failures(rig, tool, script, args):
    want = {"vault": VAULT, "az": ["account", "get-access-token", "--scope", "https://redis.azure.com/.default", "--output", "json"],
            "aws": ["configure", "export-credentials", "--format", "process"]}[tool]
    good = {"vault": {"data": {"password": "x"}}, "az": {"accessToken": "x", "expires_on": 1},
            "aws": {"AccessKeyId": "x", "SecretAccessKey": "x"}}[tool]
    for answer, code in (("{}", 0), ("", 0), ("not logged in", 0), (good, 1)):
        stub(rig, tool, want, answer, code)
        r = run(rig, script, *args)
        assert r.returncode != 0 and not r.stdout, (answer, code, r)
    assert run(rig, script).returncode != 0
