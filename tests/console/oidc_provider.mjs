// An OpenID provider for the tests of the console's sign-in: the certified `oidc-provider`, with a client and two accounts.
// `node oidc_provider.mjs NODE_MODULES PORT REDIRECT_URI`; says "ready" when it listens.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [modules, port, redirect] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${modules}/`));
const { Provider } = await import(pathToFileURL(require.resolve("oidc-provider")));

// The login form of the library takes any password; the name decides.
const GROUPS = { "ops@example.com": ["staff", "postern-ops"], "desk@example.com": ["postern-desk"] };

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: "postern",
    client_secret: "a client secret, with: signs",
    redirect_uris: [redirect],
    response_types: ["code"],
    grant_types: ["authorization_code"],
  }],
  pkce: { required: () => true },
  // Claims are in the ID token, as most providers of companies have it.
  conformIdTokenClaims: false,
  claims: { openid: ["sub"], email: ["email", "email_verified"], groups: ["groups"] },
  scopes: ["openid", "email", "groups"],
  async findAccount(_, id) {
    return {
      accountId: id,
      claims: async () => ({ sub: id, email: id, email_verified: true, groups: GROUPS[id] ?? [] }),
    };
  },
  features: { devInteractions: { enabled: true } },
  cookies: { keys: ["a key for the tests alone"] },
});
provider.listen(Number(port), "127.0.0.1", () => console.log("ready"));
