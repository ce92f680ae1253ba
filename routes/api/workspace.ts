import { z } from "zod";
import { exportWorkspace, WorkspaceFile } from "../../models/workspace_file.ts";
import { listInvitations } from "../../models/invitations.ts";
import { listMembers } from "../../models/members.ts";
import { holdingsOf } from "../../models/workspaces.ts";
import { importWorkspace } from "../../models/workspace_import.ts";
import { getRetention, keepBodies, keepCalls, Retention } from "../../models/retention.ts";
import { operation } from "./operation.ts";

const RetentionShape = Retention.meta({ id: "Retention" });
export type RetentionShape = z.infer<typeof RetentionShape>;

const File = WorkspaceFile.meta({ id: "WorkspaceFile" });

const Result = z.object({
  steps: z.array(z.object({
    kind: z.enum(["server", "agent", "connection", "approvals"]),
    name: z.string(),
    action: z.enum(["create", "created", "same", "collision", "waiting", "blocked", "failed"])
      .describe(
        "create: it is not there yet; created: it is now; same: it is there as in the file; " +
          "collision: something else has its name and is left as it is; waiting: for a server to " +
          "list its tools, import again then; blocked: something is needed first",
      ),
    detail: z.string(),
  })),
  secretsNeeded: z.array(z.object({
    server: z.string(),
    name: z.string(),
    label: z.string(),
    isRequired: z.boolean(),
  })),
  isComplete: z.boolean().describe("All of the file is there"),
}).meta({ id: "ImportResult" });
export type ImportResult = z.infer<typeof Result>;

const Role = z.enum(["owner", "admin", "member", "viewer"]);

export const workspaceOperations = [
  operation({
    name: "get_workspace",
    method: "GET",
    path: "/workspace",
    scopes: ["read"],
    summary: "Read the workspace: its name, what you are in it, and how much of what it holds",
    input: z.strictObject({}),
    output: z.object({
      id: z.uuid(),
      name: z.string(),
      role: Role,
      members: z.int(),
      agents: z.int(),
      servers: z.int(),
      toolboxes: z.int(),
    }),
    run: async ({ deps: { db }, bearer: { user, workspace } }) => {
      const { servers, toolboxes, ...held } = await holdingsOf(db, user, workspace.id);
      const counts = { servers: servers.length, toolboxes: toolboxes.length };
      return { ...workspace, ...held, ...counts };
    },
  }),
  operation({
    name: "list_members",
    method: "GET",
    path: "/workspace/members",
    scopes: ["read"],
    summary: "List who is in the workspace, and as what",
    description: "Who comes, goes and may do what is for people who are signed in to say.",
    input: z.strictObject({}),
    output: z.object({
      items: z.array(z.object({
        userId: z.uuid(),
        name: z.string(),
        email: z.string(),
        role: Role,
        since: z.iso.datetime(),
      })),
    }),
    run: async ({ deps: { db }, bearer: { user, workspace } }) => ({
      items: await listMembers(db, user, workspace.id),
    }),
  }),
  operation({
    name: "list_invitations",
    method: "GET",
    path: "/workspace/invitations",
    scopes: ["read"],
    summary: "List the invitations that are open (owners and admins; for others there are none)",
    input: z.strictObject({}),
    output: z.object({
      items: z.array(z.object({
        id: z.uuid(),
        role: Role,
        createdAt: z.iso.datetime(),
        expiresAt: z.iso.datetime(),
        invitedBy: z.string(),
      })),
    }),
    run: async ({ deps: { db }, bearer: { user, workspace } }) => ({
      items: await listInvitations(db, user, workspace.id),
    }),
  }),
  operation({
    name: "get_retention",
    method: "GET",
    path: "/workspace/retention",
    scopes: ["read"],
    summary: "Read how long calls are kept, and whether what is said in them is",
    input: z.strictObject({}),
    output: RetentionShape,
    run: ({ deps: { db }, bearer: { user, workspace } }) => getRetention(db, user, workspace.id),
  }),
  operation({
    name: "set_retention",
    method: "PATCH",
    path: "/workspace/retention",
    scopes: ["read", "workspace:write"],
    summary: "Say how long calls are kept (owners and admins), and what is said in them (owners)",
    description:
      "What is older is removed within minutes, for good. keepsBodies false deletes what " +
      "was kept of what was said.",
    input: z.strictObject(Retention.partial().shape),
    output: RetentionShape,
    run: async ({ deps: { db }, bearer: { user, workspace } }, input) => {
      const { callsKeptDays, keepsBodies, bodiesKeptDays } = input;
      // The one that takes the higher role first: refused, it has changed nothing.
      if (keepsBodies !== undefined || bodiesKeptDays !== undefined) {
        await keepBodies(db, user, workspace.id, { isOn: keepsBodies, days: bodiesKeptDays });
      }
      if (callsKeptDays !== undefined) await keepCalls(db, user, workspace.id, callsKeptDays);
      return await getRetention(db, user, workspace.id);
    },
  }),
  operation({
    name: "export_workspace",
    method: "GET",
    path: "/workspace/export",
    scopes: ["read"],
    summary: "Read the workspace as one file: servers, agents, connections and approvals",
    description:
      "Secrets stay behind, by name. What servers keep in volumes, tokens and toolboxes " +
      "are not in it.",
    input: z.strictObject({}),
    output: File,
    run: ({ deps: { db }, bearer: { user, workspace } }) => exportWorkspace(db, user, workspace),
  }),
  operation({
    name: "export_workspace_with_secrets",
    method: "POST",
    path: "/workspace/export",
    scopes: ["read", "secrets:export"],
    summary:
      "Read the workspace as one file, its secrets sealed with a passphrase (owners and admins)",
    description:
      "scrypt and AES-256-GCM; the workspace's events say that it was done. Whoever has " +
      "the file guesses at the passphrase as fast as they can: make it long.",
    input: z.strictObject({ passphrase: z.string().max(1000) }),
    output: File,
    run: ({ deps: { db, secretsKey }, bearer: { user, workspace } }, { passphrase }) =>
      exportWorkspace(db, user, workspace, { passphrase, secretsKey }),
  }),
  operation({
    name: "import_workspace",
    method: "POST",
    path: "/workspace/import",
    scopes: ["read", "servers:write", "agents:write", "tools:approve"],
    summary: "Bring an exported file in: say what it would make, or make it",
    description: "Without apply nothing is changed. What is there is left as it is, so importing " +
      "again goes on where it ended; approvals follow once servers list their tools.",
    input: z.strictObject({
      file: z.record(z.string(), z.unknown()).describe("A file that an export made"),
      apply: z.boolean().default(false),
      secrets: z.record(z.string(), z.record(z.string(), z.string().max(65_536))).default({})
        .describe("By server and name; an empty one leaves that secret out"),
      passphrase: z.string().max(1000).optional().describe("Opens the file's sealed secrets"),
      agreesToBuildCode: z.boolean().default(false).describe(
        "That its entries' install scripts and Dockerfiles run while images are built",
      ),
    }),
    output: Result,
    run: ({ deps, bearer: { user, workspace } }, input) =>
      importWorkspace(deps, user, { ...input, workspaceId: workspace.id }),
  }),
];
