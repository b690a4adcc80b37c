"""A mail server for the tests of alerts: aiosmtpd, with STARTTLS and accounts. Prints its port, then a line of JSON
for each message.

    smtp_server.py CERT KEY USER PASSWORD
"""

import asyncio
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult


class Printer:
    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        print(json.dumps({
            "from": envelope.mail_from, "to": envelope.rcpt_tos, "tls": session.ssl is not None,
            "authenticated": session.authenticated, "subject": message["subject"], "header_from": message["from"],
            "header_to": message["to"], "date": message["date"], "id": message["message-id"],
            "text": message.get_content(),
        }), flush=True)
        return "250 OK"


def check(server, session, envelope, mechanism, data):
    good = data.login == sys.argv[3].encode() and data.password == sys.argv[4].encode()
    return AuthResult(success=good, handled=good)


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    loop = asyncio.get_running_loop()

    def session():
        return SMTP(Printer(), hostname="mail.test", tls_context=context, require_starttls=True, authenticator=check,
                    auth_required=True, loop=loop)

    server = await loop.create_server(session, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
