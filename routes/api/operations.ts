import { agentOperations } from "./agents.ts";
import { callOperations } from "./calls.ts";
import { catalogOperations } from "./catalog.ts";
import { conversationOperations } from "./conversations.ts";
import { meOperations } from "./me.ts";
import type { Operation } from "./operation.ts";
import { serverRecordOperations } from "./server_records.ts";
import { serverOperations } from "./servers.ts";
import { toolOperations } from "./tools.ts";
import { toolboxOperations } from "./toolboxes.ts";
import { workspaceOperations } from "./workspace.ts";

/** All that a program can do, in the order in which its page tells it. */
export const OPERATIONS: { section: string; operations: Operation[] }[] = [
  { section: "You", operations: meOperations },
  { section: "Catalog", operations: catalogOperations },
  { section: "Servers", operations: serverOperations },
  { section: "Records of servers", operations: serverRecordOperations },
  { section: "Tools and approvals", operations: toolOperations },
  { section: "Agents", operations: agentOperations },
  { section: "Conversations", operations: conversationOperations },
  { section: "Toolboxes", operations: toolboxOperations },
  { section: "Calls", operations: callOperations },
  { section: "Workspace", operations: workspaceOperations },
];
