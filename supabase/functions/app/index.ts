/**
 * The app as a Supabase Edge Function: the same pages, API and bridge over the project's own database and
 * accounts. An isolate lives for minutes beside others, so it keeps nothing: it opens no links to toolboxes,
 * hears of changes by looking, and says what it still writes behind its answers.
 */
import { createApp } from "../../../app.ts";
import { BodyKeeper } from "../../../models/call_bodies.ts";
import { CallRecorder } from "../../../models/calls.ts";
import builtinCatalog from "../../../models/catalog_builtin.json" with { type: "json" };
import { putBuiltinCatalogOnce } from "../../../models/catalog_entries.ts";
import { Changes } from "../../../models/changes.ts";
import { connect } from "../../../models/db.ts";
import { createLog, errorFields } from "../../../models/log.ts";
import { isMigrated } from "../../../models/migrations.ts";
import { openModelReach } from "../../../models/model_reach.ts";
import { openOutside } from "../../../models/outside.ts";
import { derivedSecrets, secretsKeyFrom } from "../../../models/secrets.ts";
import { supabaseIdentity } from "../../../models/supabase_identity.ts";
import { keepAlive } from "../../../routes/keep_alive.ts";
import { readEdgeConfig } from "./config.ts";
import { NEWEST_MIGRATION } from "./newest_migration.ts";
import { asReached, clientIpOf } from "./request.ts";
import { secretsKeyText } from "./secrets_key.ts";

const config = readEdgeConfig(Deno.env.toObject());
const log = createLog("json");
// Few: many isolates share what the pooler has.
const db = connect({ url: config.databaseUrl, pooled: true, max: 4 });
const keyText = await secretsKeyText(db, config.secretsKey);
const secretsKey = await secretsKeyFrom(keyText);
const calls = new CallRecorder(db, log, new BodyKeeper(db, secretsKey), keepAlive);
const app = await createApp({
  db,
  identity: supabaseIdentity(db, { ...config, log }),
  setup: null,
  secretsKey,
  appSigningKey: (await derivedSecrets(keyText)).appSigningKey,
  outside: openOutside({ privateHosts: config.oauthPrivateHosts }),
  models: openModelReach({ privateHosts: config.modelPrivateHosts }),
  changes: new Changes(db),
  links: null,
  calls,
  log,
  baseUrl: config.baseUrl,
  version: "0.1.0",
  isMigrated: () => isMigrated(db.asApp, [{ version: NEWEST_MIGRATION }]),
});

keepAlive(
  putBuiltinCatalogOnce(db, builtinCatalog).catch((error) =>
    log.error("The built-in catalog could not be written", errorFields(error))
  ),
);

Deno.serve({ port: Number(Deno.env.get("PORT") ?? 8000) }, (request) => {
  const clientIp = clientIpOf(request);
  return app.fetch(asReached(request, config.baseUrl), { clientIp });
});
