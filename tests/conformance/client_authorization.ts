/**
 * The suite's client scenarios of authorization, with Mooring as the client: the app signs a person in who
 * says yes to all, and the adapter of remote servers calls with the token. The suite's servers speak http,
 * which Mooring asks nobody: between them and the app's way out they are made to look as if they spoke TLS
 * (what of the way out is not tried by that is in tests/models/outside_test.ts).
 */
import { HEADERS_METHOD } from "../../dtma/protocol.ts";
import { openSession } from "../../dtma/session.ts";
import { renewAuthorizations } from "../../models/authorizations.ts";
import { type Outside, refuseUnfit } from "../../models/outside.ts";
import { linkIn, openApp } from "../oauth/app.ts";
import { toolCall } from "../dtma/stdio_server.ts";
import { KNOWN_OF_AUTHORIZATION } from "./known.ts";
import { ADAPTER } from "./pairings.ts";
import { type Outcome, runSuite } from "./suite.ts";

const SUITE = "0.2.0-alpha.12";
const LOCK = new URL("../deno.lock", import.meta.url).pathname;

const BOTH = [
  "metadata-default",
  "metadata-var1",
  "metadata-var2",
  "metadata-var3",
  "basic-cimd",
  "scope-from-www-authenticate",
  "scope-from-scopes-supported",
  "scope-omitted-when-undefined",
  "scope-step-up",
  "scope-retry-limit",
  "token-endpoint-auth-basic",
  "token-endpoint-auth-post",
  "token-endpoint-auth-none",
  "pre-registration",
];
const SCENARIOS: Record<string, string[]> = {
  "2025-03-26": ["2025-03-26-oauth-metadata-backcompat", "2025-03-26-oauth-endpoint-fallback"],
  "2025-11-25": BOTH,
  "2026-07-28": [
    ...BOTH,
    "resource-mismatch",
    "offline-access-scope",
    "offline-access-not-supported",
    "authorization-server-migration",
    "iss-supported",
    "iss-not-advertised",
    "iss-supported-missing",
    "iss-wrong-issuer",
    "iss-unexpected",
    "iss-normalized",
    "metadata-issuer-mismatch",
  ],
};

/** Of the suite's extension scenarios none is run. */
export const CLIENT_SCENARIOS_LEFT_OUT =
  "the suite's client scenarios of extensions (client credentials, enterprise-managed, DPoP, workload " +
  "identity): Mooring has a person sign in, for bearer tokens";

/** How often a person signs in again for one server, before they leave it. */
const SIGN_INS = 3;

/** @param revisions those whose scenarios are run; all, unless said */
export async function runClientAuthorization(
  directory: string,
  revisions = Object.keys(SCENARIOS),
): Promise<(Outcome & { check: string })[]> {
  await using app = await openApp({ outside: asIfThroughTls });
  const client = clientOf(app);
  await using control = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    async (request) => {
      const { url, context } = await request.json();
      try {
        return new Response(await client(url, context));
      } catch (error) {
        return new Response(String(error), { status: 500 });
      }
    },
  );
  const script = new URL("suite_sign_in.ts", import.meta.url).pathname;
  const command = `${Deno.execPath()} run --quiet -A --no-check --lock=${LOCK} ${script} ` +
    `http://127.0.0.1:${control.addr.port}`;
  const outcomes = [];
  for (const revision of revisions) {
    for (const scenario of SCENARIOS[revision]) {
      const args = ["--command", command, "--scenario", `auth/${scenario}`];
      args.push("--spec-version", revision);
      const results = await runSuite(
        SUITE,
        ["client", ...args],
        `${directory}/${revision}/${scenario}`,
      );
      for (const [check, outcome] of results) {
        outcomes.push({ ...outcome, check: `${check} (${revision})` });
      }
    }
  }
  return outcomes;
}

/** What did not pass and is not known not to, and what is known and passed. */
export function unexpectedOf(outcomes: (Outcome & { check: string })[]): string[] {
  const wrong = outcomes.filter(({ status }) => status === "FAILURE" || status === "WARNING");
  const covers = (known: string, check: string) =>
    check.startsWith(known.endsWith("*") ? known.slice(0, -1) : `${known} `);
  const isKnown = (check: string) =>
    KNOWN_OF_AUTHORIZATION.some((known) => covers(known.check, check));
  const ran = (known: string) => outcomes.some(({ check }) => covers(known, check));
  const unnecessary = KNOWN_OF_AUTHORIZATION.filter(({ check: known }) =>
    ran(known) && !wrong.some(({ check }) => covers(known, check))
  );
  return [
    ...wrong.filter(({ check }) => !isKnown(check))
      .map(({ check, status, message }) => `${check}: ${status}, ${message ?? "no message"}`),
    ...unnecessary.map(({ check }) => `${check}: in known.ts, and passes`),
  ];
}

/** A client that connects to a server and calls its tools. @returns what came of it, for the suite's own log */
function clientOf(app: Awaited<ReturnType<typeof openApp>>) {
  return async (url: string, { client_id: clientId, client_secret: clientSecret }: {
    client_id?: string;
    client_secret?: string;
  }): Promise<string> => {
    let begun = await app.add(tls(url), { account: "true" });
    const [, serverId] = /\/servers\/([0-9a-f-]{36})/.exec(await begun.clone().text()) ?? [];
    if (!serverId) return `It was not added: ${await begun.text()}`;
    if (clientId) {
      const typed = { clientId, ...(clientSecret && { clientSecret }) };
      begun = await app.post(`/servers/${serverId}/account`, typed);
    }
    let signIns = 0;
    const signIn = async (page: Response): Promise<string | null> => {
      if (page.status !== 200) return noticeIn(await page.text());
      if (++signIns > SIGN_INS) return "It wants a sign-in again and again";
      const { link } = await linkIn(page);
      // The suite's people say yes at once.
      const said = await fetch(plain(link.href), { redirect: "manual" });
      await said.body?.cancel();
      const back = said.headers.get("location");
      if (!back) return `The person was not sent back: ${said.status}`;
      const ended = await app.get(tls(back));
      return ended.status === 303 ? null : noticeIn(await ended.text());
    };
    const failure = await signIn(begun);
    if (failure) return failure;

    const headersNow = async () => (await app.desired(serverId)).headers ?? {};
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-lock", "-A", ADAPTER, url],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    try {
      const writer = child.stdin.getWriter();
      const params = { headers: await headersNow() };
      const line = JSON.stringify({ jsonrpc: "2.0", method: HEADERS_METHOD, params });
      await writer.write(new TextEncoder().encode(`${line}\n`)).finally(() => writer.releaseLock());
      const refusals: { status: 401 | 403; error?: string; scope?: string }[] = [];
      const session = await openSession(child, {
        handshakeTimeoutMs: 20_000,
        log: () => {},
        onRefused: (params) => void refusals.push(params as (typeof refusals)[number]),
      });
      /** What a person does whom the server's page asks to sign in again, or for more rights. */
      const again = async () => {
        const refusal = refusals.shift();
        if (!refusal) return false;
        await app.report([{ serverId, ...refusal }]);
        await app.owner`update public.authorizations set renew_at = now() where ${
          refusal.status === 401
        }`;
        await renewAuthorizations(app.deps, app.toolboxId);
        const row = await app.row(serverId);
        if (row.state !== "signed_in" || row.wanted_scope !== null) {
          const failed = await signIn(await app.post(`/servers/${serverId}/account`));
          if (failed) throw new Error(failed);
        }
        session.setHeaders(await headersNow());
        return true;
      };
      const trying = async <T>(work: () => Promise<T>): Promise<T> => {
        try {
          return await work();
        } catch (error) {
          if (await again()) return await trying(work);
          throw error;
        }
      };
      const tools = await trying(() => session.listTools());
      for (const { name } of tools) {
        await trying(async () => {
          const { error } = await session.call(toolCall(name), {});
          if (error) throw new Error(error.message);
        });
      }
      session.close("All was called");
      return `${tools.length} tools were called`;
    } finally {
      child.kill("SIGKILL");
      await child.status;
      await child.stdout.cancel().catch(() => {});
    }
  };
}

/** Why a page says that there is no account. */
function noticeIn(page: string): string {
  return />([^<]*)<\/p>/.exec(page.slice(page.indexOf("notice bad")))?.[1] ?? page;
}

const asIfThroughTls: Outside = async (address, { method = "GET", headers, body } = {}) => {
  refuseUnfit(new URL(address));
  const response = await fetch(plain(String(address)), {
    method,
    headers,
    body: body === undefined || body === null ? undefined : plain(String(body)),
    redirect: method === "GET" ? "follow" : "manual",
  });
  const answer = new Headers();
  for (const [name, value] of response.headers) answer.append(name, tls(value));
  for (const name of ["content-length", "content-encoding"]) answer.delete(name);
  const text = tls(await response.text());
  return new Response(text === "" ? null : text, { status: response.status, headers: answer });
};

/** Addresses of the suite's servers as Mooring is told them, plainly and encoded. */
function tls(text: string): string {
  return text.replaceAll("http://localhost", "https://localhost")
    .replaceAll("http%3A%2F%2Flocalhost", "https%3A%2F%2Flocalhost");
}

/** And as they are. */
function plain(text: string): string {
  return text.replaceAll("https://localhost", "http://localhost")
    .replaceAll("https%3A%2F%2Flocalhost", "http%3A%2F%2Flocalhost");
}
