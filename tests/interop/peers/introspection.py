"""What Dovecot asks whose a token is (RFC 7662). Arguments: port, user, token."""

import http.server
import json
import sys
import urllib.parse

port, user, token = sys.argv[1:]


class Introspection(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        right = query.get("token") == [token]
        answer = {"active": "yes", "username": user} if right else {"active": "no"}
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Introspection).serve_forever()
