#!/usr/bin/python3
"""
credential-vault.py PATH: what Vault has at PATH, as a document for leased (source = "command").

PATH is that of a dynamic or static role of a database engine, or of a key-value secret with the keys username and password.
`vault` finds its server and token by itself: VAULT_ADDR (pass_env) and ~/.vault-token, or an agent.
"""
import json
import subprocess
import sys

if len(sys.argv) != 2:
    sys.exit("usage: credential-vault.py PATH")
answer = json.loads(subprocess.run(["vault", "read", "-format=json", sys.argv[1]], stdout=subprocess.PIPE, check=True).stdout)
data = answer["data"]
if isinstance(data.get("data"), dict):  # a key-value engine of version 2 wraps its secrets
    data = data["data"]
out = {"username": data.get("username"), "password": data["password"]}
# A static role has a ttl, a dynamic one is leased. A plain secret has neither that means anything.
lifetime = data.get("ttl") or answer.get("lease_duration") if answer.get("lease_id") or "ttl" in data else None
if lifetime:
    out["expires_in"] = int(lifetime)
print(json.dumps({k: v for k, v in out.items() if v is not None}))
