import type { Identity, Person } from "../models/identity.ts";
import type { SigningKey } from "../dtma/protocol.ts";
import type { Links } from "../mcp/links.ts";
import type { CallRecorder } from "../models/calls.ts";
import type { Changes } from "../models/changes.ts";
import type { Database } from "../models/db.ts";
import type { Log } from "../models/log.ts";
import type { SendMail } from "../models/mail.ts";
import type { ModelReach } from "../models/model_reach.ts";
import type { Outside } from "../models/outside.ts";
import type { SecretsKey } from "../models/secrets.ts";
import type { Workspace } from "../models/workspaces.ts";
import type { Assets } from "../views/layout.tsx";

/** Who may make the first account: whoever reads the console. */
export interface Setup {
  check(code: string): boolean;
}

/** What the app is made with; every part is the entry point's choice. */
export interface Deps {
  db: Database;
  identity: Identity;
  /** Null once there are accounts when the app starts. */
  setup: Setup | null;
  secretsKey: SecretsKey;
  appSigningKey: SigningKey;
  /** To hosts that remote servers and catalogs name. */
  outside: Outside;
  /** To the servers of models; left out, to those of the internet. */
  models?: ModelReach;
  changes: Changes;
  /** Null on an edge isolate: each call is a request of its own there. */
  links: Links | null;
  calls: CallRecorder;
  log: Log;
  /** Left out where no mail is sent. */
  sendMail?: SendMail | null;
  /** Where the app is reached; its path is the prefix of all links. */
  baseUrl: URL;
  version: string;
  isMigrated(): Promise<boolean>;
}

/** What the app's parts work with: what it was given, and what is the same for all entry points. */
export interface AppDeps extends Deps {
  models: ModelReach;
  /** Where the chat, as any client, finds the bridge. */
  bridge: { url: URL; fetch: typeof fetch };
}

/** What middleware gives a request's handlers. */
export interface Env {
  /** What the entry point knows of the connection. */
  Bindings: { clientIp?: string };
  Variables: {
    requestId: string;
    assets: Assets;
    /** Set behind requireUser. */
    user: Person;
    workspace: Workspace;
    /** All that the person is in. */
    workspaces: Workspace[];
  };
}
