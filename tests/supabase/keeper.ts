import type { OAuthClientProvider } from "npm:@modelcontextprotocol/client@2.4.0";

/** What SDK v2 has a client keep of its sign-in; where its person is to go is kept as well. */
export class Keeper implements OAuthClientProvider {
  authorizationUrl: URL | null = null;
  // deno-lint-ignore no-explicit-any -- the SDK's own
  kept: Record<string, any> = {};
  constructor(readonly redirectUrl = "http://127.0.0.1:9999/callback") {}
  get clientMetadata() {
    return { client_name: "An editor", redirect_uris: [this.redirectUrl] };
  }
  clientInformation = () => this.kept.client;
  saveClientInformation = (client: unknown) => void (this.kept.client = client);
  tokens = () => this.kept.tokens;
  saveTokens = (tokens: unknown) => void (this.kept.tokens = tokens);
  codeVerifier = () => this.kept.verifier;
  saveCodeVerifier = (verifier: string) => void (this.kept.verifier = verifier);
  discoveryState = () => this.kept.discovery;
  saveDiscoveryState = (discovery: unknown) => void (this.kept.discovery = discovery);
  invalidateCredentials = (which: string) =>
    void (which === "tokens" || which === "all" ? this.kept.tokens = undefined : null);
  state = () => "a state";
  redirectToAuthorization = (url: URL) => void (this.authorizationUrl = url);
}
