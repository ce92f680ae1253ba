import { z } from "zod";
import { type AskedInput, findCatalogEntry } from "../../models/catalog_entries.ts";
import { digestsBy } from "../../models/image_digests.ts";
import type { Offer } from "../../models/offers.ts";
import { readScans } from "../../models/scans.ts";
import { BUILD_CONSENT } from "../../models/server_form.ts";
import { getServer } from "../../models/servers.ts";
import { readEntryTrust, readServerTrust, type Trust } from "../../models/trust.ts";
import { getUpdate, skipUpdate, updateServer, type UpdateStatus } from "../../models/updates.ts";
import { operation } from "./operation.ts";
import { fieldsOf, inputs, readServer, serverId, ServerShape, Value } from "./servers.ts";

const Update = z.object({
  state: z.enum(["uncatalogued", "current", "available", "skipped", "older", "listed_only"]),
  entry: z.string().nullable().describe("The catalog entry's slug"),
  installed: z.string(),
  listed: z.string().nullable().describe("The version that the catalog has"),
  obstacle: z.string().nullable().describe("Why that one cannot be deployed here"),
  offer: z.object({
    id: z.string().describe("What update_server takes"),
    from: z.string(),
    to: z.string(),
    kind: z.enum(["newer", "revised", "later"]).describe(
      "By its number; the same version said otherwise; later, where numbers do not tell",
    ),
    isPrerelease: z.boolean(),
    at: z.iso.datetime(),
    changes: z.array(z.object({
      about: z.enum(["package", "inputs", "permissions", "running", "tools"]),
      name: z.string(),
      before: z.string().nullable(),
      after: z.string().nullable(),
      widens: z.boolean().describe("It could do, reach or be given more than before"),
    })),
    asks: z.array(z.object({
      field: z.string(),
      name: z.string(),
      label: z.string().optional(),
      isSecret: z.boolean(),
    })).describe("What has to be given with it"),
    asksConsent: z.enum(["install-scripts", "dockerfile"]).nullable(),
  }).nullable(),
  failed: z.object({
    generation: z.int(),
    version: z.string(),
    at: z.iso.datetime(),
    reason: z.string().nullable(),
    log: z.array(z.string()),
  }).nullable().describe("The last update did not get ready, so the settings before are back"),
}).meta({ id: "Update" });
export type UpdateShape = z.infer<typeof Update>;

const TrustShape = z.object({
  isVerified: z.boolean().describe(
    "Named exactly by a catalog that checked whose it is, or got ready in this workspace as it is",
  ),
  facts: z.array(z.object({
    name: z.string(),
    value: z.string(),
    means: z.string(),
    bearing: z.enum(["good", "neutral", "caution", "unknown"]),
    source: z.string().nullable().describe("What it was read from; null: nothing was asked"),
  })),
  controls: z.array(z.object({
    name: z.string(),
    loosened: z.string().nullable().describe("Why it is not in force; null: it is"),
  })),
}).meta({ id: "Trust" });

const updateId = z.string().min(1).max(300).describe("An offer's id");

export const updateOperations = [
  operation({
    name: "get_server_update",
    method: "GET",
    path: "/servers/{server}/update",
    scopes: ["read"],
    summary: "Read how a server stands to its catalog entry, and what a newer version changes",
    input: z.strictObject(serverId),
    output: Update,
    run: async ({ deps: { db }, bearer }, { server }) =>
      shown(await getUpdate(db, bearer.user, server)),
  }),
  operation({
    name: "update_server",
    method: "POST",
    path: "/servers/{server}/update",
    scopes: ["servers:write"],
    summary: "Give a server the newer version of its catalog entry",
    description:
      "As its next generation, which takes over once its tools are listed; if it does not get " +
      "ready, the settings of before come back. What was given goes along.",
    input: z.strictObject({
      ...serverId,
      update: updateId,
      inputs: inputs(Value),
      agreesToBuildCode: z.boolean().default(false).describe(
        "That its install scripts or Dockerfile run while its image is built",
      ),
    }),
    output: ServerShape,
    versionOf: ({ generation }) => generation,
    run: async (asked, { server, update, inputs, agreesToBuildCode }) => {
      const { deps: { db, secretsKey, outside }, bearer: { user } } = asked;
      const { offer } = await getUpdate(db, user, server);
      const form = {
        ...fieldsOf(offer?.asks ?? [], inputs),
        [BUILD_CONSENT]: String(agreesToBuildCode),
      };
      await updateServer(db, user, server, { update, form }, secretsKey, digestsBy(outside));
      return await readServer(asked, server);
    },
  }),
  operation({
    name: "skip_server_update",
    method: "POST",
    path: "/servers/{server}/update/skip",
    scopes: ["servers:write"],
    summary: "Offer a version no more; the next one is offered again",
    input: z.strictObject({
      ...serverId,
      update: updateId.nullable().describe("An offer's id; null: offer again what was skipped"),
    }),
    output: Update,
    run: async ({ deps: { db }, bearer: { user } }, { server, update }) => {
      await skipUpdate(db, user, server, update);
      return shown(await getUpdate(db, user, server));
    },
  }),
  operation({
    name: "get_server_trust",
    method: "GET",
    path: "/servers/{server}/trust",
    scopes: ["read"],
    summary: "Read what is known of a server by which to trust it",
    input: z.strictObject(serverId),
    output: TrustShape,
    run: async ({ deps: { db }, bearer: { user } }, { server }) => {
      const found = await getServer(db, user, server);
      return trustShown(await readServerTrust(db, user, found, await readScans(db, user, server)));
    },
  }),
  operation({
    name: "get_entry_trust",
    method: "GET",
    path: "/catalog/{slug}/trust",
    scopes: ["read"],
    summary: "Read what is known of a catalog entry by which to trust it",
    input: z.strictObject({ slug: z.string().min(1).max(63) }),
    output: TrustShape,
    run: async ({ deps: { db }, bearer: { user, workspace } }, { slug }) => {
      const row = await findCatalogEntry(db, user, slug, workspace.id);
      return trustShown(await readEntryTrust(db, user, workspace.id, row));
    },
  }),
];

function shown({ slug, offer, ...status }: UpdateStatus) {
  return { ...status, entry: slug, offer: offer && offerShown(offer) };
}

/** Without what was given already, which is the server's own to tell. */
function offerShown({ asks, values: _, namesTools: __, ...offer }: Offer) {
  return { ...offer, asks: asks.map(askShown) };
}

function askShown({ field, input: { name, label, isSecret } }: AskedInput) {
  return { field, name, label, isSecret };
}

function trustShown({ isVerified, facts, controls }: Trust) {
  return { isVerified, facts, controls };
}
