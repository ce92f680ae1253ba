/**
 * A workspace moves from a self-hosted app to one on Supabase and back, as docs/supabase.md says: two apps with a database,
 * accounts and a secrets' key of their own. The project is a stand-in (hosted_supabase.sql, auth_server.ts).
 */
import assert from "node:assert/strict";
import { v7 } from "uuid";
import { generateSigningKey } from "../../dtma/protocol.ts";
import builtin from "../../models/catalog_builtin.json" with { type: "json" };
import { putBuiltinCatalog } from "../../models/catalog_entries.ts";
import { newSecretsKeyText, secretsKeyFrom } from "../../models/secrets.ts";
import { acceptReport, enrolToolbox, touchToolbox } from "../../models/toolboxes.ts";
import { openSealedSecrets } from "../../models/workspace_file.ts";
import { SUPABASE } from "../models/databases.ts";
import { observation } from "../models/observation.ts";
import { FACTS, openApi, type Reply } from "../routes/api/app.ts";
import { openPageApp } from "../routes/page_app.ts";
import { EXAMPLE, open, PASSWORD } from "./identity_world.ts";

const TOKEN = "GITHUB_PERSONAL_ACCESS_TOKEN";
const SECRETS = { github: { [TOKEN]: "ghp_the real one" } };
const PASSPHRASE = "correct horse battery staple";
const ECHO = { name: "echo", description: "Says it again", inputSchema: { type: "object" } };

/** The app on Supabase, with its owner's access token and a toolbox. */
async function openProject() {
  const world = await open();
  const { db, auth, identity } = world;
  await putBuiltinCatalog(db, builtin);
  const secretsKey = await secretsKeyFrom(newSecretsKeyText());
  const pages = await openPageApp({ db, identity }, { baseUrl: EXAMPLE, secretsKey });
  const account = await auth.addAccount({ email: "owner@example.com", password: PASSWORD });
  const { access_token } = await auth.openSession(account);
  const send = async (method: string, path: string, body?: unknown): Promise<Reply> => {
    const response = await pages.app.request(`${EXAMPLE}/api/v1${path}`, {
      method,
      body: body === undefined ? undefined : JSON.stringify(body),
      headers: { authorization: `Bearer ${access_token}`, "content-type": "application/json" },
    });
    const text = await response.text();
    const { status, headers } = response;
    return { status, headers, text, body: text ? JSON.parse(text) : undefined };
  };
  const { id, enrolmentToken } = (await send("POST", "/toolboxes", { name: "Host" })).body;
  const { publicKey } = await generateSigningKey();
  await enrolToolbox(db, { token: enrolmentToken, publicKey, facts: FACTS });
  await touchToolbox(db, id, FACTS);
  return {
    ...world,
    send,
    toolboxId: id as string,
    async [Symbol.asyncDispose]() {
      await pages.close();
      await world[Symbol.asyncDispose]();
    },
  };
}

Deno.test({
  name: "a workspace moves to Supabase and back, with its secrets, agents, connections and pins",
  ignore: SUPABASE.ignore,
  sanitizeOps: false,
  sanitizeResources: false,
  async fn() {
    await using home = await openApi();
    const here = await home.tokenOf("owner");
    const github = (await home.send(here, "POST", "/servers", {
      entry: "github",
      inputs: SECRETS.github,
      options: { memoryMiB: 256 },
    })).body.id;
    const stopped = await home.send(here, "POST", "/servers", { entry: "everything" });
    await home.send(here, "POST", `/servers/${stopped.body.id}/stop`);
    await home.report(github, 1, [ECHO]);
    const [tool] = (await home.send(here, "GET", `/servers/${github}/tools`)).body.items;
    await home.send(here, "POST", `/servers/${github}/approvals`, {
      definitions: [{ name: "echo", hash: tool.hash }],
    });
    const agent = (await home.send(here, "POST", "/agents", { name: "Claude", presents: "search" }))
      .body.id;
    await home.send(here, "POST", `/agents/${agent}/tokens`, { name: "laptop" });
    await home.send(here, "PUT", `/agents/${agent}/connections/${github}`, { picked: ["echo"] });
    await home.send(here, "PUT", `/agents/${agent}/connections/${github}/tools/echo`, {
      name: "say",
      defaults: { text: "hello" },
    });
    const sealed = (path = "/workspace/export") => [path, { passphrase: PASSPHRASE }] as const;
    const file = (await home.send(here, "POST", ...sealed())).body;
    assert.equal(file.servers[1].approved.length, 1);
    assert.equal(file.agents[0].connections.length, 1);
    const same = (other: Record<string, unknown>) => {
      const left = { exportedAt: 0, workspace: "", sealedSecrets: 0 };
      assert.deepEqual({ ...other, ...left }, { ...file, ...left });
    };

    await using project = await openProject();
    const there = (await project.send("GET", "/servers")).body;
    assert.deepEqual(there.items, [], "it begins empty");
    const wish = { file, passphrase: PASSPHRASE };
    const plan = (await project.send("POST", "/workspace/import", wish)).body;
    assert.deepEqual(plan.secretsNeeded, []);
    const first = (await project.send("POST", "/workspace/import", { ...wish, apply: true })).body;
    assert.equal(first.isComplete, false, "pins wait for what the servers list");
    const servers = (await project.send("GET", "/servers")).body.items;
    const imported = servers.find((server: { slug: string }) => server.slug === "github").id;
    await acceptReport(project.db, project.toolboxId, reportOf(imported));
    const second = (await project.send("POST", "/workspace/import", { ...wish, apply: true })).body;
    assert.equal(second.isComplete, true, JSON.stringify(second.steps));
    const moved = (await project.send("POST", ...sealed())).body;
    same(moved);
    assert.deepEqual(await openSealedSecrets(moved, PASSPHRASE), SECRETS);
    const [claude] = (await project.send("GET", "/agents")).body.items;
    const { tokens } = (await project.send("GET", `/agents/${claude.id}`)).body;
    assert.deepEqual(tokens, [], "tokens are made anew");
    const members = (await project.send("GET", "/workspace/members")).body.items;
    assert.equal(members.length, 1, "and people join anew");

    // Back, into another workspace of the self-hosted one.
    const { other } = home;
    const back = await home.tokenOf("stranger", undefined, other.workspaceId);
    const again = { file: moved, passphrase: PASSPHRASE, apply: true };
    await home.send(back, "POST", "/workspace/import", again);
    const returned = (await home.send(back, "GET", "/servers")).body.items
      .find((server: { slug: string }) => server.slug === "github").id;
    await acceptReport(home.db, other.toolboxId, reportOf(returned));
    const last = (await home.send(back, "POST", "/workspace/import", again)).body;
    assert.equal(last.isComplete, true, JSON.stringify(last.steps));
    const whole = (await home.send(back, "POST", ...sealed())).body;
    same(whole);
    assert.deepEqual(await openSealedSecrets(whole, PASSPHRASE), SECRETS);
  },
});

/** What a toolbox says of the server once it is up. */
function reportOf(serverId: string) {
  const observations = [observation(serverId, 1, [ECHO])];
  return { epoch: v7(), sequence: 1, observations, events: [], removed: [] };
}
