/** What an MCP client does to sign a person in, step by step, over an app without a browser. */
import assert from "node:assert/strict";
import { ORIGIN } from "../routes/page_app.ts";

export const CALLBACK = "http://127.0.0.1:9999/callback";

type App = {
  request(
    path: string,
    init?: RequestInit,
    env?: { clientIp: string },
  ): Response | Promise<Response>;
};

let registrations = 0;

export async function register(app: App, metadata: object = {}) {
  return await app.request(`${ORIGIN}/oauth/register`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ client_name: "An editor", redirect_uris: [CALLBACK], ...metadata }),
    // Registrations are counted by address.
  }, { clientIp: `10.0.0.${Math.floor(++registrations / 10)}` });
}

export async function clientId(app: App, metadata: object = {}): Promise<string> {
  const response = await register(app, metadata);
  assert.equal(response.status, 201, await response.clone().text());
  return (await response.json()).client_id;
}

const VERIFIER = "v".repeat(43);

/** The query of an authorization request, with the challenge of {@link exchange}'s verifier. */
export async function request(client: string, more: Record<string, string> = {}) {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(VERIFIER));
  const challenge = btoa(String.fromCharCode(...new Uint8Array(digest)))
    .replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
  const query = new URLSearchParams({
    response_type: "code",
    client_id: client,
    redirect_uri: CALLBACK,
    state: "a state",
    scope: "tools",
    code_challenge: challenge,
    code_challenge_method: "S256",
    resource: `${ORIGIN}/mcp`,
    ...more,
  });
  for (const [name, value] of Object.entries(more)) if (value === "") query.delete(name);
  return `/oauth/authorize?${query}`;
}

/** A person's decision. @returns where the browser is sent */
export async function decide(
  app: App,
  cookie: string,
  path: string,
  form: Record<string, string>,
  origin = ORIGIN,
): Promise<URL> {
  const response = await app.request(`${origin}${path}`, {
    method: "POST",
    headers: {
      cookie,
      origin,
      "content-type": "application/x-www-form-urlencoded",
    },
    body: new URLSearchParams({ decision: "allow", scope: "tools", ...form }).toString(),
  });
  const to = /url=(.*)/.exec(response.headers.get("refresh") ?? "")?.[1];
  assert.ok(to, `${response.status} ${await response.clone().text()}`);
  return new URL(to);
}

export async function token(app: App, form: Record<string, string>) {
  const response = await app.request(`${ORIGIN}/oauth/token`, {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: new URLSearchParams(form).toString(),
  });
  return { status: response.status, body: await response.json(), headers: response.headers };
}

export async function exchange(
  app: App,
  client: string,
  code: string,
  more: Record<string, string> = {},
) {
  return await token(app, {
    grant_type: "authorization_code",
    client_id: client,
    code,
    redirect_uri: CALLBACK,
    code_verifier: VERIFIER,
    ...more,
  });
}

export async function renew(
  app: App,
  client: string,
  refreshToken: string,
  more: Record<string, string> = {},
) {
  return await token(app, {
    grant_type: "refresh_token",
    client_id: client,
    refresh_token: refreshToken,
    ...more,
  });
}

/** A call of a tool over Streamable HTTP; of 2026-07-28, whose requests each stand for themselves. */
export async function callTool(
  app: App,
  accessToken: string,
  name: string,
  args: Record<string, unknown> = {},
  path = "/mcp",
) {
  const version = "2026-07-28";
  const _meta = {
    "io.modelcontextprotocol/protocolVersion": version,
    "io.modelcontextprotocol/clientInfo": { name: "test", version: "1" },
    "io.modelcontextprotocol/clientCapabilities": {},
  };
  return await app.request(`${ORIGIN}${path}`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${accessToken}`,
      "content-type": "application/json",
      accept: "application/json, text/event-stream",
      "mcp-protocol-version": version,
      "mcp-method": "tools/call",
      "mcp-name": name,
    },
    body: JSON.stringify({
      jsonrpc: "2.0",
      id: 1,
      method: "tools/call",
      params: { name, arguments: args, _meta },
    }),
  });
}

export async function ping(app: App, accessToken: string, path = "/mcp") {
  const response = await app.request(`${ORIGIN}${path}`, {
    method: "POST",
    headers: { authorization: `Bearer ${accessToken}`, "content-type": "application/json" },
    body: `{"jsonrpc":"2.0","id":1,"method":"ping"}`,
  });
  await response.body?.cancel();
  return response;
}
