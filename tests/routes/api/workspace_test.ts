/** A workspace exported from one tenant and imported into another, over the API. */
import assert from "node:assert/strict";
import { v7 } from "uuid";
import { acceptReport } from "../../../models/toolboxes.ts";
import { deployEntry } from "../../../models/servers.ts";
import { madeEntry } from "../../models/made_entries.ts";
import { testKey } from "../../models/databases.ts";
import { observation } from "../../models/observation.ts";
import { openApi } from "./app.ts";

const TOKEN = "GITHUB_PERSONAL_ACCESS_TOKEN";
const PASSPHRASE = "correct horse battery staple";
const ECHO = { name: "echo", description: "Says it again", inputSchema: { type: "object" } };

interface Step {
  kind: string;
  name: string;
  action: string;
  detail: string;
}

Deno.test({
  name: "a workspace as one file",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn(t) {
    await using api = await openApi();
    const { db, user, workspaceId, toolboxId, other } = api;
    const here = await api.tokenOf("owner");
    const there = await api.tokenOf("stranger", undefined, other.workspaceId);

    const deployed = await api.send(here, "POST", "/servers", {
      entry: "github",
      inputs: { [TOKEN]: "ghp_secret" },
      options: { memoryMiB: 256 },
    });
    const github = deployed.body.id;
    await api.send(here, "POST", `/servers/${github}/hosts`, { host: "extra.example.com:443" });
    const stopped = await api.send(here, "POST", "/servers", { entry: "everything" });
    await api.send(here, "POST", `/servers/${stopped.body.id}/stop`);
    await api.report(github, 2, [ECHO]);
    const [tool] = (await api.send(here, "GET", `/servers/${github}/tools`)).body.items;
    await api.send(here, "POST", `/servers/${github}/approvals`, {
      definitions: [{ name: "echo", hash: tool.hash }],
    });
    const agent = (await api.send(here, "POST", "/agents", { name: "Claude", presents: "search" }))
      .body.id;
    await api.send(here, "PUT", `/agents/${agent}/connections/${github}`, { picked: ["echo"] });
    await api.send(here, "PUT", `/agents/${agent}/connections/${github}/tools/echo`, {
      name: "say",
      defaults: { text: "hello" },
      perMinute: 30,
      atOnce: 2,
    });

    const file = (await api.send(here, "GET", "/workspace/export")).body;
    const importing = async (given: Record<string, unknown>, token = there) => {
      const reply = await api.send(token, "POST", "/workspace/import", { file, ...given });
      return { reply, steps: reply.body.steps as Step[] };
    };
    const actions = (steps: Step[]) =>
      Object.fromEntries(steps.map(({ kind, name, action }) => [`${kind} ${name}`, action]));

    await t.step("has servers, agents, connections and approvals, and no secret", () => {
      assert.deepEqual(file.servers.map(({ slug }: { slug: string }) => slug), [
        "everything",
        "github",
      ]);
      const [everything, exported] = file.servers;
      assert.equal(everything.running, false);
      assert.deepEqual(exported.secrets, [TOKEN]);
      assert.deepEqual(exported.options.hosts, ["extra.example.com:443"]);
      assert.deepEqual(exported.approved, [{ kind: "tool", name: "echo", hash: tool.hash }]);
      assert.deepEqual(file.agents[0].connections, [{
        server: "github",
        options: {
          tools: ["echo"],
          changes: {
            echo: { name: "say", defaults: { text: "hello" }, perMinute: 30, atOnce: 2 },
          },
        },
      }]);
      assert.equal(JSON.stringify(file).includes("ghp_secret"), false);
    });

    await t.step("changes nothing where it comes from", async () => {
      const { reply, steps } = await importing({ apply: true }, here);
      assert.equal(reply.body.isComplete, true, reply.text);
      assert.deepEqual([...new Set(steps.map(({ action }) => action))], ["same"]);
    });

    await t.step("is planned first, and the plan changes nothing", async () => {
      const { reply, steps } = await importing({});
      assert.deepEqual(actions(steps), {
        "server everything": "create",
        "server github": "blocked",
        "agent Claude": "create",
        "connection Claude to github": "create",
        "approvals github": "waiting",
      });
      assert.deepEqual(reply.body.secretsNeeded, [
        { server: "github", name: TOKEN, label: "Personal access token", isRequired: true },
      ]);
      assert.equal((await api.send(there, "GET", "/servers")).body.items.length, 0);
      assert.equal((await api.send(there, "GET", "/agents")).body.items.length, 0);
    });

    await t.step("opens its sealed secrets by their passphrase, unchanged alone", async () => {
      const sealed = (await api.send(here, "POST", "/workspace/export", { passphrase: PASSPHRASE }))
        .body;
      assert.equal(JSON.stringify(sealed).includes("ghp_secret"), false);
      const events = (await api.send(here, "GET", "/events?limit=1")).body.items;
      assert.match(events[0].message, /Exported the workspace with its secrets/);
      const wrong = await importing({ file: sealed, passphrase: "another passphrase" });
      assert.equal(wrong.reply.status, 422);
      assert.equal(wrong.reply.body.errors[0].pointer, "#/passphrase");
      // Whoever changes where a server sends things does not get the secrets along.
      const tampered = structuredClone(sealed);
      tampered.servers[1].entry.network.hosts.push("evil.example.com:443");
      const refused = await importing({ file: tampered, passphrase: PASSPHRASE });
      assert.equal(refused.reply.status, 422);
      const costly = structuredClone(sealed);
      costly.sealedSecrets.N = 2 ** 30;
      assert.equal((await importing({ file: costly, passphrase: PASSPHRASE })).reply.status, 422);
      const { reply, steps } = await importing({ file: sealed, passphrase: PASSPHRASE });
      assert.deepEqual(reply.body.secretsNeeded, []);
      assert.equal(actions(steps)["server github"], "create");
      const short = await api.send(here, "POST", "/workspace/export", { passphrase: "short" });
      assert.equal(short.status, 422);
    });

    await t.step("is carried out, by slugs and pins, as often as one likes", async () => {
      const secrets = { github: { [TOKEN]: "ghp_theirs" } };
      const first = await importing({ apply: true, secrets });
      assert.deepEqual(actions(first.steps), {
        "server everything": "created",
        "server github": "created",
        "agent Claude": "created",
        "connection Claude to github": "created",
        "approvals github": "waiting",
      });
      const servers = (await api.send(there, "GET", "/servers")).body.items;
      const status = (slug: string) => servers.find((s: { slug: string }) => s.slug === slug);
      assert.equal(status("everything").running, false);
      const imported = status("github").id;
      const whole = (await api.send(there, "GET", `/servers/${imported}`)).body;
      assert.equal(whole.options.memoryMiB, 256);
      assert.deepEqual(whole.options.hosts, ["extra.example.com:443"]);
      assert.deepEqual(whole.secrets, [TOKEN]);

      await acceptReport(db, other.toolboxId, {
        epoch: v7(),
        sequence: 1,
        observations: [observation(imported, 1, [ECHO])],
        events: [],
        removed: [],
      });
      const second = await importing({ apply: true });
      assert.equal(second.reply.body.isComplete, true, second.reply.text);
      assert.equal(actions(second.steps)["approvals github"], "created");
      const third = await importing({ apply: true });
      assert.deepEqual([...new Set(third.steps.map(({ action }) => action))], ["same"]);
      assert.equal((await api.send(there, "GET", "/servers")).body.items.length, 2);
      const again = (await api.send(there, "GET", "/workspace/export")).body;
      assert.deepEqual(
        { ...again, exportedAt: 0, workspace: 0 },
        { ...file, exportedAt: 0, workspace: 0 },
        "what is exported there is what was exported here",
      );
    });

    await t.step(
      "leaves alone what is otherwise there, and approves no other definition",
      async () => {
        const changed = structuredClone(file);
        changed.servers[1].options.memoryMiB = 1024;
        changed.servers[1].approved[0].hash = "another";
        changed.agents[0].asks = "always";
        changed.agents[0].connections[0].options.tools = null;
        const { steps } = await importing({ file: changed, apply: true });
        assert.deepEqual(actions(steps), {
          "server everything": "same",
          "server github": "collision",
          "agent Claude": "collision",
          "connection Claude to github": "waiting",
          "approvals github": "waiting",
        });
        assert.match(steps.find(({ name }) => name === "github")!.detail, /Memory/);
        changed.servers[1].options.memoryMiB = 256;
        const other = await importing({ file: changed, apply: true });
        assert.equal(actions(other.steps)["approvals github"], "collision");
        assert.equal(actions(other.steps)["connection Claude to github"], "collision");
      },
    );

    await t.step("asks before it builds what runs code of its own", async () => {
      await deployEntry(db, user, {
        workspaceId,
        toolboxId,
        entry: madeEntry("npm-scripts"),
        form: { "consent.build": "true" },
        idempotencyKey: v7(),
      }, testKey);
      const scripts = (await api.send(here, "GET", "/workspace/export")).body;
      const blocked = await importing({ file: scripts, apply: true });
      assert.equal(actions(blocked.steps)["server made-npm-scripts"], "blocked");
      const agreed = await importing({ file: scripts, apply: true, agreesToBuildCode: true });
      assert.equal(actions(agreed.steps)["server made-npm-scripts"], "created");
    });

    await t.step("that does not hold is refused whole, and says where", async () => {
      for (
        const [wrong, words] of [
          [{}, /no workspace/],
          [{ ...file, version: 2 }, /newer Mooring/],
          [{ ...file, extra: 1 }, /no workspace/],
          [{ ...file, servers: [...file.servers, file.servers[0]] }, /twice/],
          [{ ...file, servers: [{ ...file.servers[0], slug: "../x" }] }, /servers\.0\.slug/],
          [{ ...file, servers: [] }, /not in the file/],
          [
            {
              ...file,
              agents: [{
                ...file.agents[0],
                connections: [{ server: "github", options: { tools: 1 } }],
              }],
            },
            /options that do not hold/,
          ],
        ] as const
      ) {
        const { reply } = await importing({ file: wrong, apply: true });
        assert.equal(reply.status, 422, reply.text);
        assert.match(reply.body.errors[0].detail, words);
        assert.equal(reply.body.errors[0].pointer, "#/file");
      }
      assert.deepEqual(api.logged.filter((line) => / (ERROR|WARNING) /.test(line)), []);
    });
  },
});
