import { accountOperations } from "./accounts.ts";
import { agentOperations } from "./agents.ts";
import { apiServerOperations } from "./api_servers.ts";
import { callOperations } from "./calls.ts";
import { catalogOperations } from "./catalog.ts";
import { catalogSourceOperations } from "./catalog_sources.ts";
import { conversationOperations } from "./conversations.ts";
import { meOperations } from "./me.ts";
import type { Operation } from "./operation.ts";
import { serverRecordOperations } from "./server_records.ts";
import { serverOperations } from "./servers.ts";
import { toolOperations } from "./tools.ts";
import { toolboxOperations } from "./toolboxes.ts";
import { updateOperations } from "./updates.ts";
import { wishOperations } from "./wishes.ts";
import { workspaceOperations } from "./workspace.ts";

/** All that a program can do, in the order in which its page tells it. */
export const OPERATIONS: { section: string; operations: Operation[] }[] = [
  { section: "You", operations: meOperations },
  { section: "Catalog", operations: catalogOperations },
  { section: "Catalog sources", operations: catalogSourceOperations },
  { section: "Servers", operations: serverOperations },
  { section: "REST APIs", operations: apiServerOperations },
  { section: "Updates and trust", operations: updateOperations },
  { section: "Records of servers", operations: serverRecordOperations },
  { section: "Accounts at remote servers", operations: accountOperations },
  { section: "Tools and approvals", operations: toolOperations },
  { section: "Agents", operations: agentOperations },
  { section: "Agents' requests", operations: wishOperations },
  { section: "Conversations", operations: conversationOperations },
  { section: "Toolboxes", operations: toolboxOperations },
  { section: "Calls", operations: callOperations },
  { section: "Workspace", operations: workspaceOperations },
];
