#!/usr/bin/python3
"""
credential-azure-entra.py OBJECT_ID: a token of Microsoft Entra for Azure Cache for Redis, as a document for leased.

OBJECT_ID is that of the identity that is logged in to `az` (az login --identity on a machine with a managed one), and is
the user name of the cache. `az` keeps its state in AZURE_CONFIG_DIR (pass_env) or the home directory.
"""
import json
import subprocess
import sys

if len(sys.argv) != 2:
    sys.exit("usage: credential-azure-entra.py OBJECT_ID")
token = json.loads(subprocess.run(["az", "account", "get-access-token", "--scope", "https://redis.azure.com/.default",
                                   "--output", "json"], stdout=subprocess.PIPE, check=True).stdout)
# expiresOn is local time without a zone; expires_on is seconds since 1970.
print(json.dumps({"username": sys.argv[1], "password": token["accessToken"], "expires_at": int(token["expires_on"])}))
