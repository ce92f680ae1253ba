/** An agent's own account at a remote server, from the button to the token: a real authorization server, the app by HTTP. */
import assert from "node:assert/strict";
import { connectServer, createAgent, disconnectServer } from "../../models/agents.ts";
import { renewAuthorizations } from "../../models/authorizations.ts";
import { getServer, reconfigureServer } from "../../models/servers.ts";
import { toolbeltOf } from "../../models/toolbelts.ts";
import { touchToolbox } from "../../models/toolboxes.ts";
import { KINDS, testKey } from "../models/databases.ts";
import { observation } from "../models/observation.ts";
import { FACTS, linkIn, openApp } from "../oauth/app.ts";
import { signInThere, startAuthorizationServer } from "../oauth/authorization_server.ts";
import { makeCertificates } from "../oauth/certificates.ts";
import { startProtectedServer } from "../oauth/protected_server.ts";

const certificates = await makeCertificates(["localhost"]);
const CALLBACK = "http://127.0.0.1:4680/oauth/callback";

for (const kind of KINDS) {
  Deno.test({
    name: `an agent has an account of its own, and is served with no other, ${kind.name}`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      using authorizationServer = await startAuthorizationServer({ certificates });
      await using protectedServer = startProtectedServer(authorizationServer, certificates);
      await using app = await openApp({
        kind,
        outside: { privateHosts: ["localhost"], ca: certificates.ca },
      });
      const { db, user } = app;
      const { provider } = authorizationServer;
      const signIn = async (begun: Response, login: string) => {
        const { link, serverId } = await linkIn(begun);
        const back = await signInThere(link.href, certificates.ca, CALLBACK, login);
        return { serverId, link, ended: await app.get(back) };
      };
      const whoseIs = async (headers?: Record<string, string>) =>
        (await provider.AccessToken.find(headers!.authorization.replace("Bearer ", "")))?.accountId;
      const { serverId } = await signIn(
        await app.add(protectedServer.url, { account: "true" }),
        "team",
      );
      const [ann, ben] = await Promise.all(["Ann's", "Ben's"].map(async (name) => {
        const id = await createAgent(db, user, app.workspaceId, name);
        await connectServer(db, user, id, serverId);
        return id;
      }));
      const path = `/agents/${ann}/connections/${serverId}`;
      const own = async () => (await app.desired(serverId)).instanceInputs?.[ann];
      const row = async () =>
        (await app.owner`select * from public.authorizations where agent_id = ${ann}`)[0];
      const due = () =>
        app.owner`update public.authorizations
          set renew_at = now() - interval '1 second', renewed_at = now() - interval '1 hour'
          where agent_id = ${ann}`;
      const unavailable = async (agentId: string) =>
        (await toolbeltOf(db, agentId)).servers[0].unavailable ?? "";
      /** As if the toolbox had brought up what is wanted. */
      const comeUp = async () => {
        const { generation } = await getServer(db, user, serverId);
        await app.observe(observation(serverId, generation, []));
      };
      const everSeen: string[] = [];
      const see = async () => {
        const { headers } = (await own())!;
        everSeen.push(headers!.authorization.replace("Bearer ", ""));
      };

      await t.step("the page offers it, and what it takes has to be agreed to", async () => {
        const page = await (await app.get(path)).text();
        assert.match(page, /Account of its own/);
        assert.match(page, /served with the server&#39;s own account/);
        const refused = await app.post(`${path}/account`);
        assert.equal(refused.status, 422);
        assert.match(await refused.text(), /needs an instance for each agent/);
        assert.equal((await app.desired(serverId)).instances, "shared");
      });

      await t.step("signed in for, it goes to that agent's instance alone", async () => {
        const { ended, link } = await signIn(
          await app.post(`${path}/account`, { instancePerAgent: "true" }),
          "ann",
        );
        assert.equal(ended.headers.get("location"), `${path}?said=account-connected`);
        assert.equal(link.searchParams.get("resource"), protectedServer.url);
        const registrations = authorizationServer.asked.filter((each) => each === "POST /reg");
        assert.equal(registrations.length, 1, "Mooring is known there already");
        const { headers, instances, instanceInputs } = await app.desired(serverId);
        assert.equal(instances, "agent");
        assert.equal(await whoseIs(headers), "team");
        assert.equal(await whoseIs(instanceInputs![ann].headers), "ann");
        assert.equal(instanceInputs![ben], undefined);
        assert.equal(instanceInputs![ann].account, (await row()).id);
        assert.match(await app.eventsOf(serverId), /Connected the agent "Ann's" with an account/);
        await comeUp();
        assert.equal(await unavailable(ann), "");
        await see();
      });

      await t.step(
        "five who renew at once renew once, and the server's is left alone",
        async () => {
          const posts = () =>
            authorizationServer.asked.filter((each) => each === "POST /token").length;
          const [before, shared] = [posts(), (await app.desired(serverId)).headers];
          const { account } = (await own())!;
          await due();
          await Promise.all(
            Array.from({ length: 5 }, () => renewAuthorizations(app.deps, app.toolboxId)),
          );
          assert.equal(posts(), before + 1);
          assert.deepEqual((await app.desired(serverId)).headers, shared);
          assert.equal((await own())!.account, account, "the same instance goes on");
          await see();
          assert.notEqual(everSeen[1], everSeen[0]);
        },
      );

      await t.step("what its instance was refused concerns its account alone", async () => {
        const { account } = (await own())!;
        await app.owner`update public.authorizations set renewed_at = now() - interval '1 hour'`;
        await app.report([{ serverId, account, status: 401, error: "invalid_token" }]);
        const soon = await app.owner<{ agent_id: string | null }[]>`
          select agent_id from public.authorizations where renew_at <= now()`;
        assert.deepEqual(soon.map(({ agent_id }) => agent_id), [ann]);
        await renewAuthorizations(app.deps, app.toolboxId);
        await see();
        const scope = "tools:write";
        await app.report([{ serverId, account, status: 403, error: "insufficient_scope", scope }]);
        assert.equal((await row()).wanted_scope, scope);
        assert.equal((await app.row(serverId)).wanted_scope, null);
        assert.match(await (await app.get(path)).text(), /want of more rights/);
      });

      await t.step("signing in again, as somebody else too, is another instance", async () => {
        const { account } = (await own())!;
        const { link } = await signIn(await app.post(`${path}/account`), "ann-at-work");
        assert.match(link.searchParams.get("scope")!, /tools:write/);
        assert.equal(await whoseIs((await own())!.headers), "ann-at-work");
        assert.notEqual((await own())!.account, account);
        await see();
      });

      await t.step("lost, the agent waits, is told so, and gets nobody else's", async () => {
        const token = await provider.AccessToken.find(everSeen.at(-1)!);
        await (await provider.Grant.find(token!.grantId!))!.destroy();
        await due();
        await renewAuthorizations(app.deps, app.toolboxId);
        const { running, headers } = await app.desired(serverId);
        assert.equal(running, true, "others go on");
        assert.equal(await whoseIs(headers), "team");
        assert.deepEqual([(await own())!.headers, (await own())!.account], [{}, undefined]);
        assert.match(await unavailable(ann), /own account at the server .* sign in again/);
        assert.equal(await unavailable(ben), "");
        assert.match(await app.eventsOf(serverId), /An agent's own account has to be signed in/);
        assert.match(await (await app.get(path)).text(), /Sign in again:.*invalid_grant/);
        await signIn(await app.post(`${path}/account`), "ann");
        assert.equal(await whoseIs((await own())!.headers), "ann");
        await see();
      });

      await t.step(
        "a toolbox that would mix accounts up gets none, and the agent waits",
        async () => {
          const { knowsInstanceAccounts: _, ...older } = FACTS;
          await touchToolbox(db, app.toolboxId, older);
          assert.deepEqual([(await own())!.headers, (await own())!.account], [{}, undefined]);
          assert.match(await unavailable(ann), /DTMA of its toolbox is too old/);
          await touchToolbox(db, app.toolboxId, FACTS);
        },
      );

      await t.step(
        "while it is there, the server keeps an instance for each agent",
        async () => {
          const { generation } = await getServer(db, user, serverId);
          const shared = { "option.instances": "shared" };
          await assert.rejects(
            reconfigureServer(
              db,
              user,
              serverId,
              { form: shared, baseGeneration: generation },
              testKey,
            ),
            /Ann's.*takes an instance for each agent/s,
          );
        },
      );

      await t.step("others neither see it nor change it, and no token is told", async () => {
        const viewer = app.browser(await app.person("vic", "viewer"));
        assert.equal((await viewer.post(`${path}/account`)).status, 403);
        assert.equal((await viewer.post(`${path}/account/disconnect`)).status, 403);
        const stranger = await createAgent(db, user, app.workspaceId, "Not connected");
        const elsewhere = `/agents/${stranger}/connections/${serverId}/account`;
        assert.equal((await app.post(elsewhere, { instancePerAgent: "true" })).status, 404);
        const told = [
          await (await app.get(path)).text(),
          await (await app.get(`${path}/account`)).text(),
          await app.eventsOf(serverId),
          app.logged.join("\n"),
          JSON.stringify(await row()),
        ].join("\n");
        assert.equal(everSeen.length, 5);
        for (const token of everSeen) assert.ok(!told.includes(token));
      });

      await t.step("disconnected, it is revoked, and the agent is as all are", async () => {
        const answer = await app.post(`${path}/account/disconnect`);
        assert.equal(answer.headers.get("location"), `${path}?said=account-disconnected`);
        assert.equal(await provider.AccessToken.find(everSeen.at(-1)!), undefined);
        assert.equal(await own(), undefined);
        assert.equal(await whoseIs((await app.desired(serverId)).headers), "team");
        await signIn(await app.post(`${path}/account`), "ann");
        await disconnectServer(db, user, ann, serverId);
        assert.equal(await row(), undefined, "it goes with its connection");
      });
    },
  });
}
