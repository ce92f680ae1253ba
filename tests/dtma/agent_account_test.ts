/**
 * Agents with accounts of their own at a remote server, from the bridge to containers on the real engine: a
 * real authorization server, and a real MCP server that checks its tokens, over TLS.
 */
import assert from "node:assert/strict";
import { connectServer, createAgent, createToken } from "../../models/agents.ts";
import { approveTools, listTools } from "../../models/tools.ts";
import { remoteEntry } from "../../models/remote_servers.ts";
import { deployEntry, getServer } from "../../models/servers.ts";
import { testKey } from "../models/databases.ts";
import { linkIn } from "../oauth/app.ts";
import { signInThere, startAuthorizationServer } from "../oauth/authorization_server.ts";
import { makeCertificates } from "../oauth/certificates.ts";
import { startProtectedServer } from "../oauth/protected_server.ts";
import { openAppAndDtma } from "./app_and_dtma.ts";
import { engineTest } from "./engine.ts";
import { eventually } from "./observed.ts";
import { bridgeAddress } from "./package_index.ts";

const FAR = "mcp.example.test";

engineTest(
  "Each agent's calls are made with its own account, and with no other",
  async (toolbox) => {
    const host = await bridgeAddress(toolbox.docker);
    const certificates = await makeCertificates([FAR, "localhost"]);
    using authorizationServer = await startAuthorizationServer({ certificates });
    await using far = startProtectedServer(authorizationServer, certificates, {
      name: FAR,
      address: host,
    });
    await using both = await openAppAndDtma(toolbox, {
      host,
      name: FAR,
      outside: { privateHosts: [FAR, "localhost"], ca: certificates.ca },
    });
    const { app, reconciler } = both;
    const { db, user, owner } = app;
    const { provider } = authorizationServer;

    // The adapter is to trust the tests' authority, as no real one's entry asks.
    const entry = remoteEntry({ url: far.url });
    const ca = { name: "NODE_EXTRA_CA_CERTS", isSecret: true, isFile: true } as const;
    const { serverId } = await deployEntry(db, user, {
      entry: { ...entry, environment: [{ ...ca, isRequired: true, format: "string" }] },
      form: { "env.NODE_EXTRA_CA_CERTS": certificates.ca, "option.instances": "agent" },
      workspaceId: app.workspaceId,
      toolboxId: app.toolboxId,
      awaitsSignIn: true,
      idempotencyKey: crypto.randomUUID(),
    }, testKey);
    const signIn = async (path: string, login: string) => {
      const { link } = await linkIn(await app.post(`${path}/account`));
      const callback = link.searchParams.get("redirect_uri")!;
      const back = await signInThere(link.href, certificates.ca, callback, login);
      assert.equal((await app.get(back)).status, 303);
    };
    await signIn(`/servers/${serverId}`, "team");
    await eventually(async () => (await listTools(db, user, serverId)).length === 2, 120_000);
    await approveTools(db, user, serverId, await listTools(db, user, serverId));
    const { slug } = await getServer(db, user, serverId);

    const agentOf = async (name: string) => {
      const id = await createAgent(db, user, app.workspaceId, name);
      await connectServer(db, user, id, serverId);
      const { token } = await createToken(db, user, id, { name: "t", expiresInDays: 1 });
      const call = async (tool = "read") => {
        const answer = await fetch(`${both.baseUrl}/mcp`, {
          method: "POST",
          headers: {
            authorization: `Bearer ${token}`,
            "content-type": "application/json",
            accept: "application/json, text/event-stream",
            "mcp-protocol-version": "2025-11-25",
          },
          body: JSON.stringify({
            jsonrpc: "2.0",
            id: 1,
            method: "tools/call",
            params: { name: `${slug}__${tool}`, arguments: {} },
          }),
        });
        return await answer.text();
      };
      return { id, call, path: `/agents/${id}/connections/${serverId}` };
    };
    /** Whose account the one call is made with that the agent makes. */
    const callerOf = async ({ call }: { call: () => Promise<string> }) => {
      const before = far.callers.length;
      const answer = await call();
      assert.match(answer, /read done/);
      assert.equal(far.callers.length, before + 1);
      return far.callers.at(-1)!;
    };
    const instances = () =>
      Object.fromEntries(
        reconciler.running().filter(({ instance }) => instance)
          .map(({ instance, containerId }) => [instance, containerId]),
      );
    const [ann, ben] = [await agentOf("Ann's"), await agentOf("Ben's")];

    assert.equal(await callerOf(ann), "team");
    assert.equal(await callerOf(ben), "team");
    const first = instances();
    await signIn(ann.path, "ann");
    await eventually(() => instances()[ann.id] !== first[ann.id], 60_000);
    assert.equal(await callerOf(ann), "ann");
    assert.equal(await callerOf(ben), "team");
    await signIn(ben.path, "ben");
    await eventually(async () => await callerOf(ben).catch(() => "") === "ben", 60_000);

    // Both at once, many times: no answer and no session is another's.
    const before = far.callers.length;
    await Promise.all(Array.from({ length: 10 }, () => [ann.call(), ben.call()]).flat());
    const made = far.callers.slice(before).toSorted();
    assert.deepEqual(made, [...Array(10).fill("ann"), ...Array(10).fill("ben")]);

    // Renewed under an instance that runs on, ahead of its end and after a refusal.
    const running = instances();
    const age = (agentId: string, due: boolean) =>
      owner`update public.authorizations set renewed_at = now() - interval '1 hour',
      renew_at = case when ${due} then now() else renew_at end where agent_id = ${agentId}`;
    const tokens = () => far.sent.size;
    const sent = tokens();
    await age(ann.id, true);
    await eventually(async () => (await ann.call(), tokens() === sent + 1), 60_000);
    await age(ben.id, false);
    const [{ id }] = await owner<{ id: string }[]>`
    select id from public.authorizations where agent_id = ${ben.id}`;
    const wanted = (await app.desired(serverId)).instanceInputs![ben.id];
    assert.equal(wanted.account, id);
    const token = wanted.headers!.authorization.replace("Bearer ", "");
    await (await provider.AccessToken.find(token))!.destroy();
    assert.equal(await callerOf(ben), "ben", "the call waited, and was made with the next one");
    assert.deepEqual(instances(), running, "no container was touched");

    // More rights are wanted of that account alone.
    assert.match(await ann.call("write"), /wants more rights/);
    await eventually(async () => {
      const rows = await owner<{ agent_id: string | null }[]>`
      select agent_id from public.authorizations where wanted_scope = 'tools:write'`;
      return rows.length === 1 && rows[0].agent_id === ann.id;
    });

    // Disconnected, it is the server's again; the other one's is as it was.
    await app.post(`${ann.path}/account/disconnect`);
    await eventually(() => instances()[ann.id] !== running[ann.id], 60_000);
    assert.equal(await callerOf(ann), "team");
    assert.equal(await callerOf(ben), "ben");

    const told = [...both.logged, app.logged.join("\n"), await app.eventsOf(serverId)].join("\n");
    for (const value of far.sent) {
      if (value) assert.ok(!told.includes(value.replace("Bearer ", "")));
    }
  },
);
