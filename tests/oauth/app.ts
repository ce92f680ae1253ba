/** The whole app over a database of its own, and the browsers of people who are signed in to it. */
import assert from "node:assert/strict";
import { v7 } from "uuid";
import { createApp } from "../../app.ts";
import type { HostFacts, Observation } from "../../dtma/protocol.ts";
import { CallRecorder } from "../../models/calls.ts";
import { Changes } from "../../models/changes.ts";
import { createLog } from "../../models/log.ts";
import { openOutside, type Outside, type OutsideOptions } from "../../models/outside.ts";
import { derivedSecrets, newSecretsKeyText } from "../../models/secrets.ts";
import { acceptReport, desiredOf, enrolToolbox, touchToolbox } from "../../models/toolboxes.ts";
import { addMember, type Kind, KINDS, openWorld, testKey } from "../models/databases.ts";

/** Of a toolbox that knows all that there is. */
export const FACTS: HostFacts = {
  dtmaVersion: "0",
  protocolVersion: 2,
  knowsTiers: true,
  knowsHeaders: true,
  knowsInstanceInputs: true,
  knowsInstanceAccounts: true,
  knowsApis: true,
  reach: "direct",
  address: "http://127.0.0.1:1",
  engine: { state: "absent", reason: "a test", advice: "none" },
};

/** A database of a server is made in a blink, where there is one. */
const QUICKEST = KINDS.findLast(({ ignore }) => !ignore)!;

export interface AppOptions {
  kind?: Kind;
  baseUrl?: string;
  facts?: HostFacts;
  /** Of the toolbox. */
  publicKey?: string;
  /** The way out, or what is special about it. */
  outside: OutsideOptions | Outside;
}

/** The app with an owner signed in, over a database of its own. */
export async function openApp(
  {
    kind = QUICKEST,
    baseUrl = "http://127.0.0.1:4680",
    facts = FACTS,
    publicKey = "k".repeat(43),
    outside: given,
  }: AppOptions,
) {
  const world = await openWorld(kind);
  const { db, workspaceId, toolboxId, identity } = world;
  const person = async (name: string, role: string) => {
    const cookies = await identity.createAccount(
      `${name}@example.com`,
      name,
      "a long enough password",
    );
    const cookie = cookies.getSetCookie()[0].split(";")[0];
    const user = (await identity.userOf(new Headers({ cookie })))!;
    await addMember(world, workspaceId, user.userId, role);
    return { cookie, user };
  };
  const bea = await person("bea", "member");
  await enrolToolbox(db, { token: world.enrolmentToken, publicKey, facts });
  await touchToolbox(db, toolboxId, facts);
  const logged: string[] = [];
  const log = createLog("text", (line) => logged.push(line));
  const outside = typeof given === "function" ? given : openOutside(given);
  const changes = new Changes(db);
  const calls = new CallRecorder(db, log);
  const { appSigningKey } = await derivedSecrets(newSecretsKeyText());
  const app = await createApp({
    db,
    identity,
    setup: null,
    secretsKey: testKey,
    outside,
    appSigningKey,
    changes,
    links: null,
    calls,
    log,
    baseUrl: new URL(baseUrl),
    version: "0",
    isMigrated: () => Promise.resolve(true),
  });
  const { origin } = new URL(baseUrl);
  /** One browser: it keeps the app's cookies. */
  const browser = ({ cookie }: { cookie: string }) => {
    const jar = new Map([[cookie.split("=")[0], cookie]]);
    const keep = (response: Response) => {
      for (const set of response.headers.getSetCookie()) {
        jar.set(set.split("=")[0], set.split(";")[0]);
      }
      return response;
    };
    const headers = () => ({ cookie: [...jar.values()].join("; "), origin });
    return {
      jar,
      get: async (path: string) =>
        keep(await app.request(new URL(path, origin).href, { headers: headers() })),
      post: async (path: string, form: Record<string, string> = {}) =>
        keep(
          await app.request(origin + path, {
            method: "POST",
            body: new URLSearchParams(form),
            headers: headers(),
          }),
        ),
    };
  };
  const own = browser(bea);
  let sequence = 0;
  const epoch = v7();
  return {
    ...world,
    ...own,
    app,
    logged,
    bea,
    person,
    browser,
    deps: { db, secretsKey: testKey, outside },
    appPublicKey: appSigningKey.publicKey,
    add: (url: string, more: Record<string, string> = {}) =>
      own.post(`${new URL(baseUrl).pathname.replace(/\/$/, "")}/servers/remote`, {
        url,
        idempotencyKey: crypto.randomUUID(),
        toolboxId,
        ...more,
      }),
    /** What the toolbox would be told of a server. */
    desired: async (serverId: string) =>
      (await desiredOf(db, toolboxId, testKey)).servers.find((each) => each.serverId === serverId)!,
    row: async (serverId: string) =>
      (await world.owner`
        select * from public.authorizations where server_id = ${serverId} and agent_id is null`)[0],
    due: async (serverId: string) => {
      await world.owner`
        update public.authorizations set renew_at = now() - interval '1 second', renewed_at = now() - interval '1 hour'
        where server_id = ${serverId} and agent_id is null`;
    },
    report: (
      refusals: {
        serverId: string;
        account?: string;
        status: 401 | 403;
        error?: string;
        scope?: string;
      }[],
    ) =>
      acceptReport(db, toolboxId, {
        epoch,
        sequence: ++sequence,
        observations: [],
        events: [],
        removed: [],
        refusals,
      }),
    observe: (observation: Observation) =>
      acceptReport(db, toolboxId, {
        epoch,
        sequence: ++sequence,
        observations: [observation],
        events: [],
        removed: [],
      }),
    eventsOf: async (serverId: string) =>
      (await world.owner`select message from public.events where server_id = ${serverId}`)
        .map(({ message }) => message).join("\n"),
    async [Symbol.asyncDispose]() {
      await calls.flush();
      await changes.close();
      await world.close();
    },
  };
}

/** The link on a page to sign in, and the server that it is for, where it is the server's own account. */
export async function linkIn(
  response: Response,
): Promise<{ link: URL; serverId: string; page: string }> {
  const page = await response.text();
  assert.equal(response.status, 200, page);
  const href = /<a class="button" href="([^"]+)" rel="noreferrer"/.exec(page)![1];
  const serverId = /href="[^"]*\/servers\/([0-9a-f-]{36})"/.exec(page)?.[1] ?? "";
  return { link: new URL(href.replaceAll("&amp;", "&")), serverId, page };
}
