import assert from "node:assert/strict";
import { generateSigningKey } from "../../dtma/protocol.ts";
import { CallRecorder } from "../../models/calls.ts";
import { Changes } from "../../models/changes.ts";
import type { Change, Database, Sql } from "../../models/db.ts";
import type { Sender } from "../../models/identity.ts";
import { createLog } from "../../models/log.ts";
import { mcpRoutes } from "../../routes/mcp.ts";

const TOKEN = `mag_${"A".repeat(43)}`;
const appSigningKey = await generateSigningKey();

interface Verdict {
  token_id: string;
  agent_id: string;
  workspace_id: string;
  expires_at: Date | null;
}
const GOOD: Verdict = { token_id: "t", agent_id: "a", workspace_id: "w", expires_at: null };

/** `/mcp` in front of a database whose word on tokens, and its time, is the test's. */
function open(
  verdict: () => Promise<Verdict | null>,
  senderOf?: (token: string) => Promise<Sender | null>,
  agents: object[] = [],
) {
  let asked = 0;
  let tell: (change: Change) => void = () => {};
  const asApp = async (strings: TemplateStringsArray) => {
    if (!strings.join("").includes("agent_of_token")) return [];
    asked++;
    const row = await verdict();
    return row ? [row] : [];
  };
  const db = {
    asApp,
    asUser: (_user: unknown, work: (sql: Sql) => unknown) =>
      work((() => Promise.resolve(agents)) as unknown as Sql),
    listen: (onChange: (change: Change) => void) => {
      tell = onChange;
      return Promise.resolve(() => Promise.resolve());
    },
  } as unknown as Database;
  const logged: string[] = [];
  const log = createLog("text", (line) => logged.push(line));
  const app = mcpRoutes({
    db,
    log,
    identity: { senderOf },
    changes: new Changes(db),
    links: null,
    calls: new CallRecorder(db, log),
    appSigningKey,
    version: "0",
    baseUrl: new URL("https://mooring.example/prefix"),
  });
  return {
    logged,
    asked: () => asked,
    revoked: () =>
      tell({ table: "agent_tokens", workspace: "w", server: null, toolbox: null, agent: "a" }),
    request: async (path: string, init: RequestInit) =>
      await app.request(`https://mooring.example${path}`, init),
    ping: async (headers: Record<string, string> = {}) =>
      await app.request("https://mooring.example/mcp", {
        method: "POST",
        headers: { authorization: `Bearer ${TOKEN}`, ...headers },
        body: `{"jsonrpc":"2.0","id":1,"method":"ping"}`,
      }),
  };
}

Deno.test("mcpRoutes asks once for a token that many requests bring", async () => {
  const mcp = open(() => Promise.resolve(GOOD));
  const answers = await Promise.all(Array.from({ length: 50 }, () => mcp.ping()));
  assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200]);
  assert.equal(mcp.asked(), 1);
});

Deno.test("mcpRoutes' answers are no page, but to a POST that brought a token, which no page can open", async () => {
  const mcp = open(() => Promise.resolve(GOOD));
  const others = [
    await mcp.ping({ authorization: "Bearer wrong" }),
    await mcp.request("/mcp", { headers: { authorization: `Bearer ${TOKEN}` } }),
  ];
  for (const answer of others) {
    assert.equal(answer.headers.get("cache-control"), "no-store");
    assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
    assert.match(answer.headers.get("content-security-policy")!, /default-src 'none'/);
    assert.match(answer.headers.get("strict-transport-security")!, /max-age/);
  }
  assert.deepEqual([...(await mcp.ping()).headers], [["content-type", "application/json"]]);
});

Deno.test("mcpRoutes forgets a verdict when its token is revoked, also one on its way", async () => {
  let verdict: Verdict | null = GOOD;
  const reads: PromiseWithResolvers<void>[] = [];
  const mcp = open(async () => {
    const read = verdict;
    const { promise } = reads[reads.push(Promise.withResolvers<void>()) - 1];
    await promise;
    return read;
  });
  const first = mcp.ping();
  while (reads.length < 1) await new Promise((resolve) => setTimeout(resolve));
  // Revoked after it was read and before that was known here.
  verdict = null;
  mcp.revoked();
  reads[0].resolve();
  assert.equal((await first).status, 200);
  const second = mcp.ping();
  while (reads.length < 2) await new Promise((resolve) => setTimeout(resolve));
  reads[1].resolve();
  assert.equal((await second).status, 401);
});

Deno.test("mcpRoutes refuses a token from the moment it expires", async () => {
  let verdict: Verdict | null = { ...GOOD, expires_at: new Date(Date.now() + 3_600_000) };
  const mcp = open(() => Promise.resolve(verdict));
  assert.equal((await mcp.ping()).status, 200);
  verdict.expires_at!.setTime(Date.now() - 1);
  verdict = null;
  assert.equal((await mcp.ping()).status, 401);
});

Deno.test("mcpRoutes answers a failure of the database in JSON, and tries again", async () => {
  let fails = true;
  const mcp = open(() =>
    fails ? Promise.reject(new Error("secret detail")) : Promise.resolve(GOOD)
  );
  const failed = await mcp.ping();
  assert.equal(failed.status, 500);
  const { error } = await failed.json();
  assert.match(error.message, /its log says why/);
  assert.match(mcp.logged[0], /secret detail/);
  fails = false;
  assert.equal((await mcp.ping()).status, 200);
});

Deno.test("mcpRoutes takes the pages of its own site alone", async () => {
  const mcp = open(() => Promise.resolve(GOOD));
  assert.equal((await mcp.ping({ origin: "https://mooring.example" })).status, 200);
  for (
    const origin of ["http://mooring.example", "https://mooring.example:444", "null", "https://x"]
  ) {
    assert.equal((await mcp.ping({ origin })).status, 403, origin);
  }
});

Deno.test("mcpRoutes asks no database about what cannot be a token", async () => {
  const mcp = open(() => Promise.resolve(GOOD));
  for (
    const authorization of ["", "Bearer", "Bearer x", `Basic ${TOKEN}`, `Bearer ${TOKEN} x`]
  ) {
    const response = await mcp.ping({ authorization });
    assert.equal(response.status, 401, authorization);
    assert.match(response.headers.get("www-authenticate")!, /^Bearer/);
  }
  assert.equal(mcp.asked(), 0);
});

Deno.test("mcpRoutes refuses a Host that a stranger may have given this address", async () => {
  const mcp = open(() => Promise.resolve(GOOD));
  for (
    const host of [
      "mooring.example",
      "MOORING.example",
      "mooring.example.",
      "127.0.0.1:4680",
      "[::1]:4680",
      "localhost",
    ]
      .concat(["app:4680", "192.168.1.7"])
  ) assert.equal((await mcp.ping({ host })).status, 200, host);
  for (
    const host of [
      "evil.example",
      "evil.example:4680",
      "127.0.0.1.evil.example",
      "evil.example.",
      "evil.example.:4680",
      "a b",
    ]
  ) {
    const refused = await mcp.ping({ host });
    assert.equal(refused.status, 403, host);
    assert.match((await refused.json()).error.message, /Host header/);
  }
  assert.equal(mcp.asked() <= 1, true, "a stranger's token is not even looked at");
});

Deno.test("mcpRoutes guards every endpoint, in both scopes", async () => {
  const mcp = open(() => Promise.resolve(GOOD));
  for (const path of ["/mcp", "/mcp/demo", "/sse", "/sse/demo", "/messages", "/messages/demo"]) {
    for (const method of ["GET", "POST", "DELETE"]) {
      const { status } = await mcp.request(path, { method });
      assert.ok(status === 401 || status === 404, `${method} ${path}: ${status}`);
      const foreign = await mcp.request(path, {
        method,
        headers: { authorization: `Bearer ${TOKEN}`, origin: "https://evil.example" },
      });
      assert.ok(foreign.status === 403 || foreign.status === 404, `${method} ${path}`);
    }
  }
  assert.equal(mcp.asked(), 0);
});

/** A person whose agents a query finds; each look-up of a token is counted. */
function openForPerson(agents: object[], expiresAt = new Date(Date.now() + 3_600_000)) {
  const asked: string[] = [];
  const mcp = open(() => Promise.resolve(null), (token) => {
    asked.push(token);
    const person = { userId: "p", email: "ann@example.com", name: "Ann" };
    return Promise.resolve(token.startsWith("eyJ") ? { person, expiresAt } : null);
  }, agents);
  const ping = async (headers: Record<string, string> = {}) =>
    (await mcp.ping({ authorization: "Bearer eyJ.of.ann", ...headers })).status;
  return { asked, ping };
}

const AGENT = { agentId: "a", name: "Editor", workspaceId: "w", role: "member" };

Deno.test("mcpRoutes knows no server whose name none can have", async () => {
  const mcp = open(() => Promise.resolve(GOOD));
  for (const at of ["/mcp", "/sse"]) {
    const headers = { authorization: `Bearer ${TOKEN}`, accept: "text/event-stream" };
    const answer = await mcp.request(`${at}/${"a".repeat(65)}`, { headers });
    assert.equal(answer.status, 404);
    assert.match((await answer.json()).error.message, /There is no server/);
  }
});

Deno.test("mcpRoutes asks once for a person's token that many requests bring, and for each agent", async () => {
  const { asked, ping } = openForPerson([AGENT]);
  const statuses = await Promise.all(Array.from({ length: 50 }, () => ping()));
  assert.deepEqual([...new Set(statuses)], [200]);
  assert.equal(asked.length, 1);
  const named = { "mooring-agent": crypto.randomUUID() };
  await Promise.all(Array.from({ length: 50 }, () => ping(named)));
  assert.equal(asked.length, 2, "another agent is another verdict");
  assert.equal(await ping({ authorization: "Bearer unknown" }), 401);
});

Deno.test("mcpRoutes asks once for what it refuses a person, too", async () => {
  const several = openForPerson([AGENT, { ...AGENT, agentId: "b" }]);
  const statuses = await Promise.all(Array.from({ length: 50 }, () => several.ping()));
  assert.deepEqual([...new Set(statuses)], [400]);
  assert.equal(several.asked.length, 1);
  assert.equal(await openForPerson([{ ...AGENT, role: "viewer" }]).ping(), 403);
});

Deno.test("mcpRoutes looks anew at a person's token that is over", async () => {
  const over = openForPerson([AGENT], new Date(Date.now() - 1));
  await over.ping();
  await over.ping();
  assert.equal(over.asked.length, 2);
});
