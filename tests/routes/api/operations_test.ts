import assert from "node:assert/strict";
import { v7 } from "uuid";
import { findCatalogEntry } from "../../../models/catalog_entries.ts";
import { grantManagement } from "../../../models/management_grants.ts";
import { makeWish } from "../../../models/wishes.ts";
import type { OpenApi } from "../../../routes/api/openapi.ts";
import { OPERATIONS } from "../../../routes/api/operations.ts";
import { putQuestions } from "../../../models/conversation_questions.ts";
import { sendMessage } from "../../../models/conversations.ts";
import { beginStep, endStep, waitForPerson } from "../../../models/conversation_work.ts";
import { openModelReach } from "../../../models/model_reach.ts";
import { openModelServer } from "../../chat/model_server.ts";
import { openApi, type Reply } from "./app.ts";
import { judge, operationsOf } from "./schema.ts";

const TOKEN = "GITHUB_PERSONAL_ACCESS_TOKEN";

Deno.test({
  name: "every operation of the API, over HTTP and held against its document",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    let words = 5000; // until it is stopped
    await using model = openModelServer(({ results }) =>
      results.length === 0
        ? { text: "I look.", calls: [{ name: "no_such_tool", args: {} }] }
        : { text: "word ".repeat(words), pauseMs: 30 }
    );
    await using api = await openApi(openModelReach({ privateHosts: [model.host] }));
    const document = (await api.send(null, "GET", "/openapi.json")).body as OpenApi;
    const described = operationsOf(document);
    const judged = judge(document);
    const done = new Set<string>();
    const owner = await api.tokenOf("owner");

    /** Does an operation by its name; members go where the document says. */
    async function ask(
      name: string,
      given: Record<string, unknown> = {},
      { token = owner, headers = {} }: {
        token?: string;
        headers?: Record<string, string>;
      } = {},
    ): Promise<Reply> {
      const { method, path, operation } = described.get(name)!;
      const rest = { ...given };
      const taken = path.replace(/\{(\w+)\}/g, (_, member) => {
        const value = encodeURIComponent(String(rest[member]));
        delete rest[member];
        return value;
      });
      const byQuery = operation.requestBody === undefined;
      const query = new URLSearchParams(
        byQuery ? Object.entries(rest).map(([name, value]) => [name, String(value)]) : [],
      );
      const reply = await api.send(
        token,
        method,
        taken + (query.size > 0 ? `?${query}` : ""),
        byQuery ? undefined : rest,
        headers,
      );
      judged(described.get(name)!, reply);
      if (reply.status < 300) done.add(name);
      return reply;
    }
    async function does(name: string, given?: Record<string, unknown>) {
      const reply = await ask(name, given);
      assert.ok(reply.status < 300, `${name}: ${reply.status} ${reply.text}`);
      return reply.body;
    }

    await t.step("the document has every operation once, by a name of its own", () => {
      const all = OPERATIONS.flatMap(({ operations }) => operations);
      assert.deepEqual([...described.keys()].toSorted(), all.map(({ name }) => name).toSorted());
      assert.equal(new Set(all.map(({ method, path }) => `${method} ${path}`)).size, all.length);
      // An anonymous recursive schema would be named so, and clash with another's.
      assert.doesNotMatch(JSON.stringify(document), /__schema\d/);
      assert.equal(document.openapi, "3.1.0");
    });

    await t.step("you", async () => {
      const me = await does("who_am_i");
      assert.equal(me.person.email, "ann@example.com");
      assert.equal(me.workspace.id, api.workspaceId);
      assert.equal(me.workspace.role, "owner");
    });

    await t.step("the catalog", async () => {
      const found = await does("search_catalog", { query: "git", limit: 1 });
      assert.equal(found.items.length, 1);
      assert.ok(found.total > 1 && found.nextCursor);
      const { inputs } = await does("get_catalog_entry", { slug: "github" });
      const token = inputs.find(({ name }: { name: string }) => name === TOKEN);
      assert.equal(token.field, `env.${TOKEN}`);
      assert.equal(token.isSecret, true);
      const filtered = await does("search_catalog", {
        runtime: "npm",
        source: "builtin",
        needsSecret: true,
        usesNetwork: true,
        isDeployable: true,
        sort: "title",
      });
      assert.ok(filtered.total > 5 && filtered.total < 88, String(filtered.total));
      assert.equal((await does("search_catalog", { source: "nowhere" })).total, 0);
      assert.deepEqual((await does("list_entry_versions", { slug: "github" })).items, []);
      assert.match((await does("read_entry_source", { slug: "github" })).raw, /"slug": "github"/);
    });

    await t.step("the catalog's sources are added, read, synced and removed", async () => {
      const list = { servers: [serverJson("com.example/listed"), { name: 7 }] };
      const files = [{ name: "list.json", content: btoa(JSON.stringify(list)) }];
      const uploaded = await does("upload_catalog_source", { name: "Files", files });
      assert.deepEqual([uploaded.entries, uploaded.broken], [1, 1]);
      const broken = await does("list_broken_entries", { source: uploaded.id });
      assert.equal(broken.items.length, 1);
      const entry = serverJson("com.example/written");
      const written = await does("write_catalog_entry", { entry });
      assert.equal(written.kind, "written");
      const { items } = await does("search_catalog", { source: written.slug });
      const { slug } = items[0];
      assert.equal((await does("list_entry_versions", { slug })).items.length, 1);
      assert.deepEqual(JSON.parse((await does("read_entry_source", { slug })).raw), entry);
      await does("remove_catalog_entry", { slug });
      assert.equal((await does("search_catalog", { source: written.slug })).total, 0);
      const added = await does("add_catalog_source", {
        name: "Registry",
        kind: "registry",
        url: "https://registry.example.com",
      });
      assert.equal(added.syncEveryMinutes, null);
      const bad = { name: "x", kind: "url", url: "http://example.com" };
      assert.equal((await ask("add_catalog_source", bad)).status, 422);
      const source = added.id;
      const changed = await does("change_catalog_source", { source, syncEveryMinutes: 60 });
      assert.equal(changed.syncEveryMinutes, 60);
      assert.equal((await does("sync_catalog_source", { source })).isSyncing, true);
      await does("remove_catalog_source", { source });
      assert.equal((await ask("get_catalog_source", { source })).status, 404);
      assert.equal((await does("get_catalog_source", { source: uploaded.id })).name, "Files");
      assert.equal((await does("list_catalog_sources")).items.length, 2);
      const member = await api.tokenOf("member");
      const refused = await ask("sync_catalog_source", { source: uploaded.id }, { token: member });
      assert.equal(refused.status, 403);
      const verified = await does("search_catalog", { isVerified: true, runtime: "npm" });
      assert.ok(
        verified.total > 0 && verified.items.every((e: { isVerified: boolean }) => e.isVerified),
      );
      const remote = await does("search_catalog", { isVerified: false, runtime: "remote" });
      assert.ok(
        remote.total > 0 && remote.items.every((e: { isVerified: boolean }) => !e.isVerified),
      );
      const trust = await does("get_entry_trust", { slug: "github" });
      assert.equal(trust.isVerified, true);
      assert.ok(trust.facts.length > 4 && trust.controls.length > 15);
    });

    let server = "";
    await t.step("a server is deployed, by inputs' names or fields", async () => {
      const made = await does("deploy_server", {
        entry: "github",
        name: "GitHub",
        inputs: { [TOKEN]: "ghp_secret" },
        options: { memoryMiB: 256, idleStopMinutes: 5 },
      });
      server = made.id;
      assert.deepEqual(made.secrets, [TOKEN]);
      assert.equal(made.options.memoryMiB, 256);
      assert.equal(made.options.idleStopS, 300);
      assert.equal(JSON.stringify(made).includes("ghp_secret"), false);
      const listed = await does("list_servers", { slug: "github" });
      assert.deepEqual(listed.items.map(({ id }: { id: string }) => id), [server]);
      assert.equal((await does("list_servers", { status: "running" })).items.length, 0);
      const asked = { search: "server-github", kind: "npm", toolbox: listed.items[0].toolboxId };
      assert.equal((await does("list_servers", asked)).items.length, 1);
      assert.equal((await does("list_servers", { ...asked, needs: "any" })).items.length, 0);
      assert.deepEqual(made.needs, []);
    });

    await t.step("a remote server is added by its URL", async () => {
      const made = await does("add_remote_server", {
        url: "https://mcp.example.com/mcp",
        headers: [{ name: "Authorization", value: "Bearer theirs" }],
      });
      assert.equal(made.package.registry, "remote");
      assert.equal(JSON.stringify(made).includes("theirs"), false);
      const bad = await ask("add_remote_server", { url: "https://u:p@example.com/" });
      assert.equal(bad.status, 422);
      assert.equal(bad.body.errors[0].pointer, "#/url");
      assert.equal((await does("get_server_account", { server: made.id })).state, "none");
    });

    await t.step(
      "an account is a person's to connect, and anybody's to read and forget",
      async () => {
        const url = "https://account.example.com/mcp";
        const { id } = await does("add_remote_server", { url, name: "Account", signsIn: true });
        const account = await does("get_server_account", { server: id });
        assert.equal(account.state, "waiting");
        assert.equal(account.signInUrl, `${api.baseUrl.origin}/servers/${id}#account`);
        assert.equal((await does("disconnect_server_account", { server: id })).state, "none");
        await does("remove_server", { server: id });
      },
    );

    await t.step("how a server speaks is said where its entry does not", async () => {
      const transport = { type: "streamable-http", port: 8080, path: "/mcp" };
      const refused = await ask("deploy_server", { entry: "everything", options: { transport } });
      // The toolbox of this world has a DTMA that is too old for it.
      assert.equal(refused.status, 422, refused.text);
      assert.match(refused.text, /too old for servers that speak HTTP/);
      const stdio = { transport: { type: "stdio" } };
      const made = await does("deploy_server", { entry: "everything", options: stdio });
      assert.equal(made.options.transport, null, "as its entry says");
      await does("remove_server", { server: made.id });
    });

    await t.step("a REST API is added by its document, and given other operations", async () => {
      const operation = (summary: string) => ({ summary, responses: {} });
      const text = (summary: string) =>
        JSON.stringify({
          openapi: "3.1.0",
          info: { title: "Notes", version: "1" },
          servers: [{ url: "https://notes.example.com" }],
          components: { securitySchemes: { key: { type: "apiKey", in: "query", name: "k" } } },
          paths: { "/notes": { get: operation(summary), post: operation("Add a note") } },
        });
      const document = await does("read_api_document", { text: text("List the notes") });
      assert.deepEqual(document.credentials, [{ scheme: "key", variables: ["AUTH_KEY"] }]);
      assert.deepEqual(
        document.operations.map(({ key, name }: { key: string; name: string }) => [key, name]),
        [["GET /notes", "get_notes"], ["POST /notes", "post_notes"]],
      );
      const made = await does("add_api_server", {
        document: document.id,
        operations: ["GET /notes"],
        credentials: { AUTH_KEY: "theirs" },
      });
      assert.deepEqual(made.package, { registry: "openapi", url: "https://notes.example.com" });
      assert.deepEqual(made.entry.network.hosts, ["notes.example.com:443"]);
      assert.equal(/theirs|"plan"/.test(JSON.stringify(made)), false);
      const newer = await does("read_api_document", { text: text("All notes"), server: made.id });
      assert.deepEqual(newer.changes, [
        { key: "GET /notes", name: "get_notes", state: "changed", parts: ["description"] },
      ]);
      const change = { server: made.id, document: newer.id, generation: 1 };
      const operations = ["GET /notes", "POST /notes"];
      const changed = await does("change_api_operations", { ...change, operations });
      assert.equal(changed.generation, 2);
      const late = await ask("change_api_operations", { ...change, operations });
      assert.equal(late.status, 409);
      const { items } = await does("list_generations", { server: made.id });
      assert.deepEqual(items[0].changes, [
        { name: "Operation get_notes", before: "as it was", after: "as its document says now" },
        { name: "Operation post_notes", before: null, after: "added" },
      ]);
      assert.equal((await does("get_api_document", { document: newer.id })).changes.length, 0);
      const bad = await ask("read_api_document", { text: "{}" });
      assert.equal(bad.status, 422);
    });

    await t.step("a change is made from a generation, and none is lost", async () => {
      const before = await ask("get_server", { server });
      assert.equal(before.headers.get("etag"), '"1"');
      assert.equal((await ask("change_server", { server, options: {} })).status, 428);
      const change = { server, options: { memoryMiB: 512 } };
      const made = await ask("change_server", change, { headers: { "if-match": '"1"' } });
      assert.equal(made.status, 200, made.text);
      assert.equal(made.headers.get("etag"), '"2"');
      assert.deepEqual(made.body.secrets, [TOKEN], "a secret that is not given stays");
      const late = await ask("change_server", change, { headers: { "if-match": '"1"' } });
      assert.equal(late.status, 412);
      assert.equal((await ask("change_server", { ...change, generation: 1 })).status, 409);
      assert.equal((await ask("get_server", { server })).body.generation, 2);
      const generations = await does("list_generations", { server });
      assert.deepEqual(
        generations.items[0].changes.map(({ name }: { name: string }) => name),
        ["Memory"],
      );
      assert.equal(generations.items[0].reason, "Changed the configuration");
      const [newest] = (await does("list_generations", { server, limit: 1 })).items;
      assert.equal(newest.generation, 2);
      const first = await does("get_generation", { server, generation: 1 });
      assert.deepEqual(first.changesNow, [{ name: "Memory", before: "512 MiB", after: "256 MiB" }]);
      assert.match(first.reason, /^Deployed/);
      assert.equal((await ask("get_generation", { server, generation: 9 })).status, 404);
      assert.equal((await does("roll_back_server", { server, generation: 1 })).generation, 3);
      assert.equal((await ask("roll_back_server", { server, generation: 9 })).status, 404);
    });

    await t.step("a newer version is offered, skipped and taken", async () => {
      const current = await does("get_server_update", { server });
      assert.deepEqual([current.state, current.offer, current.entry], ["current", null, "github"]);
      const none = { server, update: "9999.1.1" };
      assert.equal((await ask("update_server", none)).status, 409);
      await api.owner`update public.catalog_entries set entry =
        jsonb_set(entry, '{package,version}', '"9999.1.1"') where slug = 'github'`;
      const { state, offer } = await does("get_server_update", { server });
      assert.deepEqual([state, offer.to, offer.asks], ["available", "9999.1.1", []]);
      assert.equal((await does("list_servers", { hasUpdate: true })).items[0].update, "9999.1.1");
      assert.equal((await does("skip_server_update", none)).state, "skipped");
      assert.equal((await does("list_servers", { hasUpdate: true })).items.length, 0);
      const made = await does("update_server", none);
      assert.deepEqual([made.generation, made.package.version], [4, "9999.1.1"]);
      assert.deepEqual(made.secrets, [TOKEN]);
      const bad = await ask("update_server", { ...none, inputs: { NOPE: "x" } });
      assert.equal(bad.status, 422);
      assert.equal((await does("get_server_trust", { server })).isVerified, true);
    });

    await t.step("a server is stopped, started and started anew", async () => {
      assert.equal((await does("stop_server", { server })).running, false);
      assert.equal((await does("start_server", { server })).running, true);
      const { generation } = await does("restart_server", { server });
      assert.equal(generation, 6);
    });

    await using _ = await api.run(server, 6);
    await t.step("tools are read, approved by their hash, called and withdrawn", async () => {
      const { items } = await does("list_tools", { server });
      const [tool] = items;
      assert.equal(tool.state, "waiting");
      assert.equal((await does("get_tool", { server, tool: tool.name })).hash, tool.hash);
      const early = await ask("call_tool", { server, tool: tool.name, arguments: {} });
      assert.equal(early.status, 409);
      const pick = { name: tool.name, hash: tool.hash };
      const stale = await ask("approve_definitions", {
        server,
        definitions: [{ ...pick, hash: "other" }],
      });
      assert.equal(stale.status, 409);
      await does("approve_definitions", { server, definitions: [pick] });
      const all = await does("list_definitions", { server });
      assert.equal(
        all.items.find(({ name }: { name: string }) => name === tool.name).state,
        "approved",
      );
      const called = await does("call_tool", {
        server,
        tool: tool.name,
        arguments: { text: "hello" },
      });
      assert.match(JSON.stringify(called.result), /hello/);
      await api.calls.flush();
      const calls = await does("list_calls", { server });
      const [made] = calls.items;
      assert.deepEqual(await does("get_call", { call: made.id }), made);
      assert.equal((await ask("get_call", { call: v7() })).status, 404);
      const narrow = { server, text: made.tool, via: made.via, outcome: made.outcome };
      assert.equal((await does("list_calls", narrow)).items[0].id, made.id);
      assert.deepEqual((await does("list_calls", { text: "nothing-like-it" })).items, []);
      assert.equal((await ask("list_calls", { outcome: "great" })).status, 422);
      const summary = await does("summarize_calls", { ...narrow, by: "server", period: "day" });
      assert.ok(summary.total.calls >= 1);
      assert.equal(summary.groups[0].id, server);
      assert.equal((await ask("get_call_body", { call: made.id })).status, 404);
      assert.equal(calls.items[0].tool, tool.name);
      assert.equal(calls.items[0].via, "trial");
      await does("withdraw_approvals", { server, names: [tool.name] });
      assert.equal((await does("get_tool", { server, tool: tool.name })).state, "waiting");
      await does("approve_definitions", { server, definitions: [pick] });
    });

    await t.step("the records of a server are read", async () => {
      assert.match((await does("read_server_log", { server, search: "error" })).text, /an Error/);
      assert.equal((await does("read_bill_of_materials", { server })).bomFormat, "CycloneDX");
      assert.equal((await does("read_server_usage", { server })).calls.calls, 1);
      assert.equal((await does("read_vulnerabilities", { server })).scan, null);
      assert.ok((await does("list_server_events", { server })).items.length > 3);
      assert.ok((await does("list_events")).items.length > 3);
    });

    await t.step("hosts are allowed, taken back and dismissed", async () => {
      const host = "evil.example.com:443";
      assert.equal((await does("read_server_network", { server })).denials.length, 1);
      assert.deepEqual((await does("allow_host", { server, host })).allowedHosts, [host]);
      assert.deepEqual((await does("disallow_host", { server, host })).allowedHosts, []);
      await does("dismiss_denial", { server, host });
      assert.equal((await ask("allow_host", { server, host: "no port" })).status, 422);
    });

    await t.step("agents, their tokens and their toolbelts", async () => {
      const { id: agent } = await does("create_agent", { name: "Claude", presents: "search" });
      assert.equal((await does("get_agent", { agent })).presents, "search");
      const changed = await does("change_agent", { agent, name: "Codex", deniesByDefault: true });
      assert.deepEqual([changed.name, changed.deniesByDefault, changed.presents], [
        "Codex",
        true,
        "search",
      ]);
      assert.equal((await does("list_agents")).items.length, 1);
      const made = await does("create_agent_token", { agent, name: "laptop" });
      assert.match(made.token, /^mag_/);
      await does("revoke_agent_token", { agent, token: made.id });
      const [tool] = (await does("list_tools", { server })).items;
      const picked = await does("connect_server", { agent, server, picked: [tool.name] });
      assert.deepEqual(picked.picked, [tool.name]);
      assert.equal((await does("list_connections", { agent })).items.length, 1);
      const [mapped] = (await does("map_connections", { agent })).items;
      assert.deepEqual([mapped.serverId, mapped.agentId], [server, agent]);
      assert.equal((await does("map_connections", { agent: v7() })).items.length, 0);
      const as = await does("change_tool", {
        agent,
        server,
        tool: tool.name,
        name: "say",
        fixed: { text: { deep: [1, "two", null] } },
        perMinute: 30,
        atOnce: 2,
      });
      const shown = as.tools.find(({ name }: { name: string }) => name === tool.name);
      assert.equal(shown.shown.name, "say");
      assert.equal(shown.shown.inputSchema.properties?.text, undefined);
      assert.deepEqual([shown.change.perMinute, shown.change.atOnce], [30, 2]);
      const often = await ask("change_tool", { agent, server, tool: tool.name, perMinute: 0 });
      assert.equal(often.body.errors[0].pointer, "#/perMinute");
      const bad = await ask("change_tool", { agent, server, tool: tool.name, name: "a b" });
      assert.equal(bad.status, 422);
      assert.equal(bad.body.errors[0].pointer, "#/name");
      const now = await ask("get_connection", { agent, server });
      assert.equal(now.body.picked.length, 1);
      const basis = { "if-match": now.headers.get("etag")! };
      const first = await ask("connect_server", { agent, server, picked: [] }, { headers: basis });
      assert.equal(first.status, 200, first.text);
      const late = await ask("connect_server", { agent, server, picked: null }, { headers: basis });
      assert.equal(late.status, 412, "somebody else's change came between");
      const stale = { agent, server, tool: tool.name, version: now.body.version };
      assert.equal((await ask("change_tool", stale)).status, 409);
      assert.deepEqual((await ask("get_connection", { agent, server })).body.picked, []);
      assert.deepEqual((await does("list_calls", { agent })).items, []);
      const own = { agent, server, inputs: { [TOKEN]: "ghp_own" } };
      assert.equal((await ask("change_own_credentials", own)).status, 422, "it has one instance");
      const given = await does("change_own_credentials", { ...own, instancePerAgent: true });
      const field = `env.${TOKEN}`;
      const [secret] = given.items;
      assert.deepEqual([secret.field, secret.name, secret.isOwn], [field, TOKEN, true]);
      const taken = await does("change_own_credentials", { ...own, inputs: { [field]: null } });
      assert.equal(taken.items[0].isOwn, false);
      assert.equal((await does("list_own_credentials", { agent, server })).items[0].isOwn, false);
      const account = await does("get_own_account", { agent, server });
      assert.equal(account.state, "none");
      const page = `${api.baseUrl.origin}/agents/${agent}/connections/${server}#account`;
      assert.equal(account.signInUrl, page);
      assert.equal((await does("disconnect_own_account", { agent, server })).state, "none");
      const odd = await ask("change_own_credentials", { ...own, inputs: { nothing: "x" } });
      assert.equal(odd.body.errors[0].pointer, "#/inputs/nothing");
      await does("disconnect_server", { agent, server });
      assert.equal((await ask("get_connection", { agent, server })).status, 404);
      await does("remove_agent", { agent });
      assert.equal((await ask("get_agent", { agent })).status, 404);
    });

    await t.step("agents' requests are read, approved and rejected", async () => {
      const { id: agent } = await does("create_agent", { name: "Asker" });
      assert.deepEqual((await does("get_agent_management", { agent })).scopes, []);
      const scopes = ["servers:write"];
      await grantManagement(api.db, api.user, agent, { scopes, asks: scopes });
      assert.deepEqual((await does("get_agent_management", { agent })).asks, scopes);
      const wish = async (slug: string, name: string) => {
        const { entry } = await findCatalogEntry(api.db, api.user, slug);
        return (await makeWish(api.db, { agentId: agent, workspaceId: api.workspaceId }, {
          asked: { operation: "deploy_server", entry: slug, name, values: {} },
          basis: { entry },
          wants: `deploy ${name}`,
          reason: null,
        })).id;
      };
      const request = await wish("github", "Wished"), other = await wish("memory", "Not this");
      assert.equal((await does("list_requests", { agent, limit: 1 })).items[0].id, request);
      const read = await ask("get_request", { request });
      assert.deepEqual(read.body.secrets.map(({ name }: { name: string }) => name), [TOKEN]);
      const inputs = { [TOKEN]: "ghp_approved" };
      assert.equal((await ask("approve_request", { request, inputs })).status, 428);
      const basis = { headers: { "if-match": read.headers.get("etag")! } };
      const incomplete = await ask("approve_request", { request }, basis);
      assert.equal(incomplete.status, 422);
      assert.equal(incomplete.body.errors[0].pointer, `#/inputs/env.${TOKEN}`);
      assert.equal((await ask("approve_request", { request, version: "x" })).status, 409);
      const viewer = await api.tokenOf("viewer");
      const version = read.body.version;
      const refused = await ask("approve_request", { request, version, inputs }, { token: viewer });
      assert.equal(refused.status, 403);
      const approved = await does("approve_request", { request, version, inputs });
      assert.equal(approved.state, "approved");
      assert.equal(JSON.stringify(approved).includes("ghp_approved"), false);
      assert.equal((await does("get_server", { server: approved.serverId })).name, "Wished");
      const no = { request: other, answer: "We have one" };
      assert.equal((await does("reject_request", no)).state, "rejected");
      assert.equal((await ask("reject_request", no)).status, 409);
      const decided = await does("list_requests", { state: "decided", limit: 1 });
      assert.equal(decided.items[0].id, other);
      const { nextCursor } = decided;
      const rest = await does("list_requests", { state: "decided", cursor: nextCursor });
      assert.deepEqual(rest.items.map(({ id }: { id: string }) => id), [request]);
      await does("remove_server", { server: approved.serverId });
      await does("remove_agent", { agent });
    });

    await t.step("who is in the workspace is read", async () => {
      const workspace = await does("get_workspace");
      assert.deepEqual([workspace.role, workspace.members], ["owner", 4]);
      const { items } = await does("list_members");
      assert.deepEqual(items.map(({ role }: { role: string }) => role), [
        "owner",
        "admin",
        "member",
        "viewer",
      ]);
      assert.deepEqual((await does("list_invitations")).items, []);
    });

    await t.step("conversations are held, stopped, taken up and deleted", async () => {
      const { id: agent } = await does("create_agent", { name: "Talker", asks: "always" });
      const named = { provider: "openai-compatible", baseUrl: model.base, model: "scripted" };
      assert.equal((await does("get_model")).model, null);
      const bad = await ask("set_model", { ...named, baseUrl: "http://10.0.0.1/v1" });
      assert.equal(bad.status, 422);
      const made = await does("set_model", { ...named, key: "sk-hidden" });
      assert.equal(made.hasKey, true);
      assert.ok(!JSON.stringify(await does("get_model")).includes("sk-hidden"));

      const { id: conversation } = await does("create_conversation", { agent, text: "Look" });
      assert.equal((await does("list_conversations")).items[0].id, conversation);
      const until = async (holds: (turn: { state: string; steps: unknown[] }) => boolean) => {
        for (;;) {
          const { turns } = await does("get_conversation", { conversation });
          if (holds(turns.at(-1))) return turns.at(-1);
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      };
      const { id: turn } = await until(({ steps }) => steps.length === 2);
      const said = { conversation, text: "And?" };
      assert.equal((await ask("send_message", said)).status, 409, "one answer at a time");
      await does("stop_turn", { conversation, turn });
      const stopped = await until(({ state }) => state === "stopped");
      assert.equal(stopped.steps[0].calls[0].state, "failed");
      words = 20;
      await does("retry_turn", { conversation, turn });
      await until(({ state }) => state === "done");
      await does("send_message", said);
      await until(({ state }) => state === "done");
      await does("rename_conversation", { conversation, title: "Looked" });

      // A tool that there is without a toolbox: one of Mooring's own.
      await grantManagement(api.db, api.user, agent, {
        scopes: ["read"],
        asks: [],
      });
      model.play(({ results }) =>
        results.length === 0
          ? { calls: [{ name: "mooring__search_catalog", args: { query: "git" } }] }
          : { text: "Found" }
      );
      await does("send_message", { conversation, text: "Search" });
      const waiting = await until(({ state }) => state === "waiting");
      const call = waiting.steps[0].calls[0].id;
      assert.equal((await ask("get_call_result", { conversation, call })).status, 404);
      await does("decide_call", { conversation, call, allow: true });
      await until(({ state }) => state === "done");
      const { result } = await does("get_call_result", { conversation, call });
      assert.match(JSON.stringify(result.content), /git/);

      // No server is there to ask: a worker that puts its question is played.
      const work = { conversationId: conversation, turnId: "", worker: crypto.randomUUID() };
      const asks = { text: "Ask me", attachments: [], worker: work.worker };
      work.turnId = await sendMessage(api.db, api.user, conversation, asks);
      await beginStep(api.db, api.user, work, 0);
      await endStep(api.db, api.user, work, 0, {
        message: {
          role: "assistant",
          content: [{ type: "tool-call", toolCallId: "c", toolName: "asks", input: {} }],
        },
        calls: [{ callId: "c", tool: "asks", arguments: "{}", state: "allowed", told: null }],
        inputTokens: null,
        outputTokens: null,
      });
      const [{ id: asking }] = (await until(({ steps }) => steps.length === 1)).steps[0].calls;
      await putQuestions(api.db, api.user, work, asking, {
        tool: "asks",
        requestState: null,
        questions: [{
          name: "who",
          params: {
            message: "Who?",
            requestedSchema: { type: "object", properties: { name: { type: "string" } } },
          },
        }],
      });
      await waitForPerson(api.db, api.user, work);
      const { steps: [{ calls: [asked] }] } = await until(({ state }) => state === "waiting");
      const answer = { conversation, question: asked.questions[0].id, action: "accept" };
      assert.equal((await ask("answer_question", { ...answer, content: { name: 1 } })).status, 422);
      await does("answer_question", { ...answer, content: { name: "Ann" } });
      const told = await until(({ state }) => state === "done");
      assert.equal(told.steps[0].calls[0].questions[0].state, "accepted");
      await does("delete_conversation", { conversation });
      await does("remove_model");
      assert.equal((await ask("get_conversation", { conversation })).status, 404);
    });

    await t.step("toolboxes are added, changed, revoked and removed", async () => {
      const made = await does("add_toolbox", { name: "Rack", labels: { zone: "eu" } });
      assert.match(made.enrolmentToken, /^mte_/);
      assert.match(made.commands.source, new RegExp(made.enrolmentToken));
      const toolbox = made.id;
      const taken = await ask("add_toolbox", { name: "rack" });
      assert.equal(taken.status, 422);
      assert.equal(taken.body.errors[0].pointer, "#/name");
      assert.deepEqual((await does("get_toolbox", { toolbox })).labels, { zone: "eu" });
      const again = await does("renew_enrolment_token", { toolbox });
      assert.notEqual(again.enrolmentToken, made.enrolmentToken);
      const changed = await does("change_toolbox", {
        toolbox,
        name: "Rack 2",
        labels: {},
        isDrained: true,
      });
      assert.deepEqual([changed.name, changed.labels], ["Rack 2", {}]);
      assert.ok(changed.drainedAt);
      assert.equal((await does("change_toolbox", { toolbox, isDrained: false })).drainedAt, null);
      assert.equal((await ask("rotate_toolbox_key", { toolbox })).status, 409, "it has no key");
      await does("rotate_toolbox_key", { toolbox: api.toolboxId });
      assert.equal((await does("list_toolboxes")).items.length, 2);
      assert.ok((await does("list_toolbox_events", { toolbox })).items.length >= 3);
      assert.ok((await does("revoke_toolbox", { toolbox })).revokedAt);
      assert.equal((await ask("remove_toolbox", { toolbox, confirmation: "x" })).status, 422);
      await does("remove_toolbox", { toolbox, confirmation: "Rack 2" });
      assert.equal((await ask("get_toolbox", { toolbox })).status, 404);
    });

    await t.step("what is kept is said, and what was said is read", async () => {
      assert.deepEqual(await does("get_retention"), {
        callsKeptDays: 90,
        keepsBodies: false,
        bodiesKeptDays: 7,
      });
      assert.equal((await ask("set_retention", { callsKeptDays: 31 })).status, 422);
      const admin = await api.tokenOf("admin");
      const both = { callsKeptDays: 30, keepsBodies: true };
      assert.equal((await ask("set_retention", both, { token: admin })).status, 403);
      assert.equal((await does("get_retention")).callsKeptDays, 90, "nothing of it was done");
      assert.equal((await does("set_retention", both)).bodiesKeptDays, 7);
      api.calls.record({
        workspaceId: api.workspaceId,
        agentId: null,
        serverId: server,
        serverSlug: "files",
        tool: "said",
        via: "bridge",
        startedAt: new Date(),
        durationMs: 1,
        outcome: "ok",
        error: null,
        requestBytes: 1,
        responseBytes: 1,
        said: api.calls.said(api.workspaceId, '{"password":"x"}', { kind: "result", text: "{}" }),
      });
      await api.calls.flush();
      const [call] = (await does("list_calls", { text: "said" })).items;
      const body = await does("get_call_body", { call: call.id });
      assert.deepEqual(body.arguments, { value: { password: "•••" }, masked: 1, isCut: false });
      const token = await api.tokenOf("viewer");
      assert.equal((await ask("get_call_body", { call: call.id }, { token })).status, 404);
      await does("set_retention", { keepsBodies: false });
      assert.equal((await ask("get_call_body", { call: call.id })).status, 404);
    });

    await t.step("the workspace is exported and imported", async () => {
      const file = await does("export_workspace");
      assert.equal(file.servers.length, 3);
      await does("export_workspace_with_secrets", { passphrase: "correct horse battery" });
      const plan = await does("import_workspace", { file });
      assert.equal(plan.isComplete, true, JSON.stringify(plan));
    });

    await t.step("a server is removed", async () => {
      await does("remove_server", { server, deleteVolumes: true });
      assert.equal((await does("get_server", { server })).status, "removing");
    });

    await t.step("an id of another tenant, of nothing or of no form is not found", async () => {
      const theirs = await api.deployElsewhere();
      const [{ id: document }] = await api.owner<{ id: string }[]>`
        insert into public.api_documents (id, workspace_id, title, version, openapi, description, document, summary)
        values (${v7()}, ${api.other.workspaceId}, 'GitHub', '1', '3.1.0', '', '{}', '{}') returning id`;
      const ids: Record<string, string[]> = {
        document: [document, v7(), "nonsense"],
        server: [theirs, v7(), "nonsense", "x".repeat(300), "%00"],
        agent: [api.other.workspaceId, v7(), "nonsense"],
        toolbox: [api.other.toolboxId, v7(), "nonsense"],
        request: [v7(), "nonsense"],
        source: [v7(), "nonsense"],
      };
      for (const { name, input, path } of OPERATIONS.flatMap(({ operations }) => operations)) {
        const member = Object.keys(ids).find((member) => path.includes(`{${member}}`));
        if (!member) continue;
        for (const id of ids[member]) {
          const reply = await ask(name, { ...examplesFor(input.shape), [member]: id });
          assert.equal(reply.status, 404, `${name} ${id}: ${reply.text}`);
          assert.equal(reply.text.includes("GitHub"), false);
        }
      }
      assert.equal(
        (await does("list_servers")).items.some((s: { id: string }) => s.id === theirs),
        false,
      );
    });

    await t.step("a token without the scope is refused, and reads which one it lacks", async () => {
      const none = await api.tokenOf("owner", ["read"]);
      const writeOnly = await api.tokenOf("owner", ["agents:write"]);
      for (const { name, scopes, input } of OPERATIONS.flatMap(({ operations }) => operations)) {
        if (scopes.length === 0) continue;
        const token = scopes.every((scope) => scope === "read") ? writeOnly : none;
        const reply = await ask(name, examplesFor(input.shape), { token });
        assert.equal(reply.status, 403, `${name}: ${reply.text}`);
        assert.match(reply.body.type, /#scope$/);
        assert.match(reply.headers.get("www-authenticate")!, /insufficient_scope/);
      }
    });

    await t.step(
      "roles hold: a viewer reads and changes nothing, a member no toolbox",
      async () => {
        const viewer = await api.tokenOf("viewer"), member = await api.tokenOf("member");
        const entry = { entry: "github", inputs: { [TOKEN]: "ghp_x" } };
        assert.equal((await ask("list_servers", {}, { token: viewer })).status, 200);
        for (
          const [name, given] of [
            ["deploy_server", entry],
            ["create_agent", { name: "x" }],
            ["read_api_document", { text: '{"openapi":"3.1.0","info":{},"paths":{"/":{}}}' }],
            ["add_toolbox", { name: "x" }],
            ["export_workspace_with_secrets", { passphrase: "correct horse battery" }],
          ] as const
        ) {
          const reply = await ask(name, given, { token: viewer });
          assert.equal(reply.status, 403, `${name}: ${reply.text}`);
          assert.match(reply.body.type, /#forbidden$/);
        }
        assert.equal((await ask("deploy_server", entry, { token: member })).status, 201);
        assert.equal((await ask("add_toolbox", { name: "x" }, { token: member })).status, 403);
        const sealed = { passphrase: "correct horse battery" };
        const asMember = await ask("export_workspace_with_secrets", sealed, { token: member });
        assert.equal(asMember.status, 403);
      },
    );

    await t.step("a token ends itself", async () => {
      const token = await api.tokenOf("admin");
      assert.equal((await ask("revoke_own_token", {}, { token })).status, 204);
      assert.equal((await ask("who_am_i", {}, { token })).status, 401);
    });

    await t.step("nothing was left out, and nothing went wrong inside", () => {
      assert.deepEqual([...described.keys()].filter((name) => !done.has(name)), []);
      assert.deepEqual(api.logged.filter((line) => / (ERROR|WARNING) /.test(line)), []);
    });
  },
});

function serverJson(name: string) {
  return {
    name,
    description: "Tells the weather of the places where we work",
    version: "1.0.0",
    remotes: [{ type: "streamable-http", url: "https://weather.example.com/mcp" }],
  };
}

/** Members that hold, whatever the operation. */
function examplesFor(shape: Record<string, unknown>): Record<string, unknown> {
  const all: Record<string, unknown> = {
    server: v7(),
    update: "1.0.0",
    agent: v7(),
    toolbox: v7(),
    token: v7(),
    slug: "github",
    tool: "echo",
    host: "example.com:443",
    generation: 1,
    entry: "github",
    url: "https://mcp.example.com/mcp",
    name: "x",
    names: ["echo"],
    definitions: [{ name: "echo", hash: "x" }],
    confirmation: "x",
    passphrase: "correct horse battery",
    file: {},
    version: "x",
    syncEveryMinutes: 60,
    document: v7(),
    operations: ["GET /x"],
  };
  return Object.fromEntries(Object.entries(all).filter(([name]) => Object.hasOwn(shape, name)));
}
