/** A real MCP server behind sign-in: SDK 2.x with its check of bearer tokens, over TLS. */
import {
  createMcpHandler,
  fromJsonSchema,
  McpServer,
  OAuthError,
  OAuthErrorCode,
  oauthMetadataResponse,
  requireBearerAuth,
} from "npm:@modelcontextprotocol/server@2.4.0";
import { type AuthorizationServer, SCOPES } from "./authorization_server.ts";
import type { Certificates } from "./certificates.ts";

export type ProtectedServer = ReturnType<typeof startProtectedServer>;

/** Starts one whose tool `read` needs the scope `tools:read`, and `write` the scope `tools:write`. */
export function startProtectedServer(
  { issuer, provider }: AuthorizationServer,
  { cert, key }: Certificates,
  { name = "localhost", address = "127.0.0.1" } = {},
) {
  const calls: string[] = [];
  /** Whose accounts they were made with. */
  const callers: string[] = [];
  /** Authorization headers that it was sent. */
  const sent = new Set<string | null>();
  const handler = createMcpHandler(() => {
    const mcp = new McpServer({ name: "protected", version: "1" });
    for (const tool of ["read", "write"]) {
      const inputSchema = fromJsonSchema({ type: "object" });
      mcp.registerTool(tool, { description: `To ${tool}`, inputSchema }, () => {
        calls.push(tool);
        return { content: [{ type: "text", text: `${tool} done` }] };
      });
    }
    return mcp;
  });
  const verifyAccessToken = async (token: string) => {
    const found = await provider.AccessToken.find(token);
    if (!found?.isValid) throw new OAuthError(OAuthErrorCode.InvalidToken, "Not a token of now");
    return {
      token,
      clientId: found.clientId!,
      scopes: (found.scope ?? "").split(" "),
      expiresAt: found.exp!,
      resource: new URL(String(found.aud)),
    };
  };
  let resource = "";
  const server = Deno.serve(
    { hostname: address, port: 0, cert, key, onListen() {} },
    async (request) => {
      const metadata = oauthMetadataResponse(request, {
        oauthMetadata: {
          issuer,
          authorization_endpoint: `${issuer}/auth`,
          token_endpoint: `${issuer}/token`,
          response_types_supported: ["code"],
        },
        resourceServerUrl: new URL(resource),
        scopesSupported: SCOPES.split(" "),
      });
      if (metadata) return metadata;
      sent.add(request.headers.get("authorization"));
      const asked = await request.clone().json().catch(() => ({}));
      const isWrite = asked.method === "tools/call" && asked.params.name === "write";
      const gate = requireBearerAuth({
        verifier: { verifyAccessToken },
        requiredScopes: isWrite ? ["tools:write"] : ["tools:read"],
        resourceMetadataUrl: new URL("/.well-known/oauth-protected-resource/mcp", resource).href,
        expectedResource: new URL(resource),
      });
      const auth = await gate(request);
      if (!(auth instanceof Response) && asked.method === "tools/call") {
        callers.push((await provider.AccessToken.find(auth.token))!.accountId!);
      }
      return auth instanceof Response ? auth : handler.fetch(request, { authInfo: auth });
    },
  );
  resource = `https://${name}:${server.addr.port}/mcp`;
  return {
    url: resource,
    calls,
    callers,
    sent,
    /** Of all tokens that were given so far none is taken any more. */
    async forget() {
      for (const value of sent) {
        const token = value?.replace("Bearer ", "");
        if (token) await (await provider.AccessToken.find(token))?.destroy();
      }
    },
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}
