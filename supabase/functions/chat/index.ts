/**
 * The chat as a Supabase Edge Function: the same code that the app mounts, by itself, so that long answers are
 * not the app's. It is told by its secrets where the database and the app are.
 */
import { Hono } from "hono";
import { chatFunction } from "../../../chat/function.ts";
import { bearerOf } from "../../../models/bearer.ts";
import { Changes } from "../../../models/changes.ts";
import { connect } from "../../../models/db.ts";
import { createLog } from "../../../models/log.ts";
import { openModelReach } from "../../../models/model_reach.ts";
import { secretsKeyFrom } from "../../../models/secrets.ts";
import { supabaseIdentity } from "../../../models/supabase_identity.ts";
import { keepAlive } from "../../../routes/keep_alive.ts";
import { hostsIn, publishableKeyOf } from "../app/config.ts";
import { secretsKeyText } from "../app/secrets_key.ts";

function needed(name: string): string {
  const value = Deno.env.get(name);
  if (!value) throw new Error(`The function needs the secret ${name}`);
  return value;
}

const db = connect({
  url: needed("DATABASE_URL"),
  pooled: Deno.env.get("DATABASE_POOLED") !== "off",
  max: 4,
});
const deps = {
  db,
  changes: new Changes(db),
  log: createLog("json"),
  secretsKey: await secretsKeyFrom(await secretsKeyText(db, Deno.env.get("SECRETS_KEY") || null)),
  models: openModelReach({ privateHosts: hostsIn(Deno.env.get("MODEL_PRIVATE_HOSTS")) }),
  // The app is another function: the bridge is asked over the network.
  bridge: { url: new URL(needed("BASE_URL")), fetch },
  version: "0.1.0",
};

// Beside a self-hosted app there is no Supabase Auth, and so no token of its own.
const publishableKey = publishableKeyOf(Deno.env.toObject());
const identity = publishableKey
  ? supabaseIdentity(db, {
    supabaseUrl: new URL(needed("SUPABASE_URL")),
    publishableKey,
    baseUrl: deps.bridge.url,
    ownerEmail: null,
    log: deps.log,
  })
  : { personOf: () => Promise.resolve(null) };

const chat = chatFunction(deps, async (token, workspace) => {
  const bearer = await bearerOf({ db, identity }, token, workspace);
  if (!bearer?.scopes.includes("tools:call")) return null;
  return { ...bearer.user, within: bearer.workspace.id };
}, keepAlive);

// Paths carry the function's name.
const app = new Hono().route("/chat", chat);
Deno.serve({ port: Number(Deno.env.get("PORT") ?? 8000) }, app.fetch);
