#!/usr/bin/python3
"""
credential-aws-elasticache.py USER CACHE REGION [--serverless]: an IAM token for ElastiCache, as a document for leased.

USER is the cache user with IAM authentication, CACHE the name of the replication group or serverless cache. The token is a
request that is signed ahead of time (Signature Version 4) and holds for 15 minutes. `aws` says what to sign with; it
finds that in its usual places: AWS_PROFILE, AWS_CONFIG_FILE and so on (pass_env), or the role of the machine.
"""
import datetime
import hashlib
import hmac
import json
import subprocess
import sys
from urllib.parse import quote

LIFETIME_S = 900
EMPTY = hashlib.sha256(b"").hexdigest()


def sign(host, path, query, keys, region, service, now, payload=EMPTY):
    """The query of a presigned GET. query: what is asked, keys: as `aws` prints them."""
    day, stamp = now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ")
    scope = "%s/%s/%s/aws4_request" % (day, region, service)
    query = dict(query, **{"X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": "%s/%s" % (keys["AccessKeyId"], scope),
                           "X-Amz-Date": stamp, "X-Amz-SignedHeaders": "host"})
    if keys.get("SessionToken"):
        query["X-Amz-Security-Token"] = keys["SessionToken"]
    text = "&".join("%s=%s" % (quote(k, safe="-_.~"), quote(str(v), safe="-_.~")) for k, v in sorted(query.items()))
    request = "GET\n%s\n%s\nhost:%s\n\nhost\n%s" % (path, text, host, payload)
    what = "AWS4-HMAC-SHA256\n%s\n%s\n%s" % (stamp, scope, hashlib.sha256(request.encode()).hexdigest())
    key = ("AWS4" + keys["SecretAccessKey"]).encode()
    for part in (day, region, service, "aws4_request", what):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return text + "&X-Amz-Signature=" + key.hex()


def main():
    args = [a for a in sys.argv[1:] if a != "--serverless"]
    if len(args) != 3:
        sys.exit("usage: credential-aws-elasticache.py USER CACHE REGION [--serverless]")
    user, cache, region = args
    keys = json.loads(subprocess.run(["aws", "configure", "export-credentials", "--format", "process"],
                                     stdout=subprocess.PIPE, check=True).stdout)
    query = {"Action": "connect", "User": user, "X-Amz-Expires": LIFETIME_S}
    if "--serverless" in sys.argv:
        query["ResourceType"] = "ServerlessCache"
    now = datetime.datetime.now(datetime.timezone.utc)
    token = "%s/?%s" % (cache, sign(cache, "/", query, keys, region, "elasticache", now))
    print(json.dumps({"username": user, "password": token, "expires_in": LIFETIME_S}))


if __name__ == "__main__":
    main()
