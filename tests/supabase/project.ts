/** The app on a port over a stand-in for a Supabase project, with people and their agents. */
import assert from "node:assert/strict";
import { createAgent } from "../../models/agents.ts";
import { putBuiltinCatalog } from "../../models/catalog_entries.ts";
import builtin from "../../models/catalog_builtin.json" with { type: "json" };
import { createLog } from "../../models/log.ts";
import { grantManagement } from "../../models/management_grants.ts";
import { supabaseIdentity } from "../../models/supabase_identity.ts";
import { createWorkspace, workspacesOf } from "../../models/workspaces.ts";
import { freePort } from "../free_port.ts";
import { addMember, SUPABASE } from "../models/databases.ts";
import { openPageApp } from "../routes/page_app.ts";
import { type AuthServerOptions, PUBLISHABLE_KEY, startAuthServer } from "./auth_server.ts";

export const PASSWORD = "a long enough password";

/** @param oauth the project signs clients in */
export async function openProject(
  { oauth = false, ...options }: Pick<AuthServerOptions, "algorithm"> & { oauth?: boolean } = {},
) {
  const stack = new AsyncDisposableStack();
  const database = await SUPABASE.open();
  stack.defer(() => database.close());
  const { db } = database;
  await putBuiltinCatalog(db, builtin);
  const port = freePort(), origin = `http://127.0.0.1:${port}`, base = `${origin}/functions/v1/app`;
  const auth = await startAuthServer({
    owner: database.owner,
    ...options,
    ...(oauth && { oauth: { siteUrl: base, authorizationPath: "/oauth/authorize" } }),
  });
  stack.defer(() => auth.close());
  const logged: string[] = [];
  const identity = supabaseIdentity(db, {
    supabaseUrl: new URL(auth.url),
    publishableKey: PUBLISHABLE_KEY,
    baseUrl: new URL(base),
    ownerEmail: "ann@example.com",
    log: createLog("text", (line) => logged.push(line)),
  });
  const { app, calls, close } = await openPageApp({ db, identity }, {
    baseUrl: base,
    say: (line) => logged.push(line),
  });
  stack.defer(close);
  // Streams that a client holds open are not waited for.
  const ending = new AbortController();
  const http = Deno.serve(
    { hostname: "127.0.0.1", port, signal: ending.signal, onListen() {} },
    (request) => app.fetch(request, { clientIp: "127.0.0.1" }),
  );
  stack.defer(async () => {
    ending.abort();
    await Promise.race([http.finished, new Promise((resolve) => setTimeout(resolve, 2000))]);
  });

  /** A person's browser, signed in. */
  async function signIn(email: string) {
    const answer = await identity.signIn(email, PASSWORD, {
      clientIp: "192.0.2.1",
      userAgent: "test",
    });
    const cookie = answer.getSetCookie().map((line) => line.split(";")[0]).join("; ");
    const visit = async (path: string, form?: Record<string, string>) =>
      await fetch(new URL(path, origin), {
        method: form ? "POST" : "GET",
        body: form && new URLSearchParams(form),
        redirect: "manual",
        headers: { cookie, ...(form ? { origin } : {}) },
      });
    return { user: (await identity.userOf(new Headers({ cookie })))!, visit };
  }

  /** An account with a workspace of its own and an agent in it, which has Mooring's own tools. */
  async function person(email: string, agentName: string) {
    const account = await auth.addAccount({ email, password: PASSWORD });
    const { user, visit } = await signIn(email);
    const [own] = await workspacesOf(db, user);
    const workspaceId = own?.id ?? await createWorkspace(db, user, "Another");
    const agentId = await makeAgent(user, workspaceId, agentName);
    return { account, user, visit, workspaceId, agentId };
  }

  async function makeAgent(user: { userId: string }, workspaceId: string, name: string) {
    const agentId = await createAgent(db, user, workspaceId, name);
    await grantManagement(db, user, agentId, { scopes: ["read"], asks: [] });
    return agentId;
  }

  const ann = await person("ann@example.com", "Editor");
  return {
    ...database,
    auth,
    identity,
    base,
    logged,
    ann,
    person,
    signIn,
    makeAgent,
    flush: () => calls.flush(),
    /** Asks until it is as it should be: what is remembered of a token holds for a moment. */
    async settled<T>(ask: () => Promise<T>, isSettled: (answer: T) => boolean): Promise<T> {
      for (;;) {
        const answer = await ask();
        if (isSettled(answer)) return answer;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    },
    addMember: (workspaceId: string, userId: string, role: string) =>
      addMember(database, workspaceId, userId, role),
    /** Asks the bridge for an answer of the agent's, as a client without a session. */
    async ping(token: string, headers: Record<string, string> = {}, path = "/mcp") {
      const response = await fetch(base + path, {
        method: "POST",
        headers: {
          authorization: `Bearer ${token}`,
          "content-type": "application/json",
          accept: "application/json, text/event-stream",
          ...headers,
        },
        body: `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`,
      });
      const body = await response.json();
      assert.ok(body.error || body.result, JSON.stringify(body));
      return {
        status: response.status,
        message: String(body.error?.message ?? ""),
        challenge: response.headers.get("www-authenticate") ?? "",
      };
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

export type Project = Awaited<ReturnType<typeof openProject>>;
