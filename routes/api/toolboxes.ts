import { z } from "zod";
import { HostFacts } from "../../dtma/protocol.ts";
import { dtmaCommands } from "../../models/dtma_command.ts";
import {
  addToolbox,
  askForNewKey,
  drainToolbox,
  labelToolbox,
  removeToolbox,
  renameToolbox,
  renewEnrolmentToken,
  revokeToolbox,
  undrainToolbox,
} from "../../models/fleet.ts";
import { getToolbox, listToolboxes } from "../../models/toolboxes.ts";
import { part } from "./cursor.ts";
import { operation, paging, partOf } from "./operation.ts";

const ToolboxShape = z.object({
  id: z.uuid(),
  name: z.string(),
  isLocal: z.boolean().describe("This machine's, run by the app's own start"),
  isOnline: z.boolean(),
  isEnrolled: z.boolean(),
  labels: z.record(z.string(), z.string()),
  servers: z.int(),
  promisedMiB: z.int().describe("What its running servers may take together"),
  facts: HostFacts.nullable().describe("What its DTMA says of its host"),
  lastSeenAt: z.iso.datetime().nullable(),
  refusal: z.string().nullable().describe("Why its DTMA and this app cannot speak"),
  newerDtma: z.string().nullable().describe("The app's DTMA, where the toolbox's is older"),
  enrolmentExpiresAt: z.iso.datetime().nullable(),
  drainedAt: z.iso.datetime().nullable(),
  revokedAt: z.iso.datetime().nullable(),
  rotationAskedAt: z.iso.datetime().nullable(),
}).meta({ id: "Toolbox" });
export type ToolboxShape = z.infer<typeof ToolboxShape>;

const Enrolment = z.object({
  id: z.uuid(),
  enrolmentToken: z.string().describe("Shown once; serves once, for 15 minutes"),
  commands: z.object({
    source: z.string(),
    program: z.string(),
    container: z.string(),
    service: z.string(),
    warning: z.string().nullable(),
  }).describe("Any one of them, to be run on the Docker host"),
}).meta({ id: "Enrolment" });
export type Enrolment = z.infer<typeof Enrolment>;

const toolbox = { toolbox: z.uuid().describe("A toolbox's id") };
/** Each is a line where people write them: none may hold two. */
const labels = z.record(
  z.string().max(63).regex(/^[A-Za-z0-9][A-Za-z0-9._/-]*$/),
  z.string().max(120).regex(/^\P{Cc}*$/u),
).refine((labels) => Object.keys(labels).length <= 32, "At most 32 labels fit");

export const toolboxOperations = [
  operation({
    name: "list_toolboxes",
    method: "GET",
    path: "/toolboxes",
    scopes: ["read"],
    summary: "List the toolboxes",
    input: z.strictObject(paging),
    output: partOf(ToolboxShape),
    run: async ({ deps: { db }, bearer: { user, workspace } }, paged) =>
      part(await listToolboxes(db, user, workspace.id), paged),
  }),
  operation({
    name: "get_toolbox",
    method: "GET",
    path: "/toolboxes/{toolbox}",
    scopes: ["read"],
    summary: "Read a toolbox",
    input: z.strictObject(toolbox),
    output: ToolboxShape,
    run: ({ deps: { db }, bearer }, { toolbox }) => getToolbox(db, bearer.user, toolbox),
  }),
  operation({
    name: "add_toolbox",
    method: "POST",
    path: "/toolboxes",
    scopes: ["toolboxes:write"],
    summary: "Add a toolbox, and get the commands that enrol it (owners and admins)",
    input: z.strictObject({ name: z.string().max(200), labels: labels.default({}) }),
    output: Enrolment,
    isCreating: true,
    run: async ({ deps: { db, baseUrl }, bearer: { user, workspace } }, { name, labels }) => {
      const made = await addToolbox(db, user, workspace.id, name, asLines(labels));
      const { toolboxId: id, enrolmentToken } = made;
      return { id, enrolmentToken, commands: dtmaCommands(baseUrl, enrolmentToken) };
    },
  }),
  operation({
    name: "renew_enrolment_token",
    method: "POST",
    path: "/toolboxes/{toolbox}/enrolment-token",
    scopes: ["toolboxes:write"],
    summary: "Make a toolbox's enrolment token anew; one made before is void",
    input: z.strictObject(toolbox),
    output: Enrolment,
    isCreating: true,
    run: async ({ deps: { db, baseUrl }, bearer: { user } }, { toolbox: id }) => {
      const enrolmentToken = await renewEnrolmentToken(db, user, id);
      return { id, enrolmentToken, commands: dtmaCommands(baseUrl, enrolmentToken) };
    },
  }),
  operation({
    name: "change_toolbox",
    method: "PATCH",
    path: "/toolboxes/{toolbox}",
    scopes: ["toolboxes:write"],
    summary: "Rename, label or drain a toolbox",
    input: z.strictObject({
      ...toolbox,
      name: z.string().max(200).optional(),
      labels: labels.optional().describe("All of them: those left out go"),
      isDrained: z.boolean().optional().describe("No new server is placed there; those there stay"),
    }),
    output: ToolboxShape,
    run: async ({ deps: { db }, bearer: { user } }, { toolbox, name, labels, isDrained }) => {
      if (name !== undefined) await renameToolbox(db, user, toolbox, name);
      if (labels !== undefined) await labelToolbox(db, user, toolbox, asLines(labels));
      if (isDrained === true) await drainToolbox(db, user, toolbox);
      if (isDrained === false) await undrainToolbox(db, user, toolbox);
      return await getToolbox(db, user, toolbox);
    },
  }),
  ...([
    ["rotate_toolbox_key", "key", "Ask a toolbox to make itself another key", askForNewKey],
    [
      "revoke_toolbox",
      "revoke",
      "Refuse a toolbox's key for good; what runs there runs on, out of reach",
      revokeToolbox,
    ],
  ] as const).map(([name, verb, summary, change]) =>
    operation({
      name,
      method: "POST",
      path: `/toolboxes/{toolbox}/${verb}`,
      scopes: ["toolboxes:write"],
      summary,
      input: z.strictObject(toolbox),
      output: ToolboxShape,
      run: async ({ deps: { db }, bearer: { user } }, { toolbox }) => {
        await change(db, user, toolbox);
        return await getToolbox(db, user, toolbox);
      },
    })
  ),
  operation({
    name: "remove_toolbox",
    method: "DELETE",
    path: "/toolboxes/{toolbox}",
    scopes: ["toolboxes:write"],
    summary:
      "Remove a revoked toolbox and its servers from Mooring; nothing is removed on its host",
    input: z.strictObject({
      ...toolbox,
      confirmation: z.string().max(200).describe("The toolbox's name"),
    }),
    run: ({ deps: { db }, bearer }, { toolbox, confirmation }) =>
      removeToolbox(db, bearer.user, toolbox, confirmation),
  }),
];

/** As people write labels, and the model reads them. */
function asLines(labels: Record<string, string>): string {
  return Object.entries(labels).map(([key, value]) => `${key}=${value}`).join("\n");
}
