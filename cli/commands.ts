import { agentCommands } from "./agents.ts";
import { apiServerCommands } from "./api_servers.ts";
import { catalogCommands } from "./catalog.ts";
import type { Command } from "./command.ts";
import { UsageError } from "./command.ts";
import { completion, SHELLS } from "./completion.ts";
import { loginCommands } from "./login.ts";
import { requestCommands } from "./requests.ts";
import { serverCommands } from "./servers.ts";
import { sourceCommands } from "./sources.ts";
import { toolboxCommands } from "./toolboxes.ts";
import { toolCommands } from "./tools.ts";
import { workspaceCommands } from "./workspace.ts";

/** All commands, in the order of their help. */
export const COMMANDS: Command[] = [
  ...loginCommands,
  ...catalogCommands,
  ...sourceCommands,
  ...serverCommands,
  ...apiServerCommands,
  ...toolCommands,
  ...agentCommands,
  ...requestCommands,
  ...toolboxCommands,
  ...workspaceCommands,
  {
    words: "completion",
    summary: "Print what makes a shell complete commands",
    arguments: [`<${SHELLS.join("|")}>`],
    details:
      'bash: eval "$(mooring completion bash)". zsh: the same. fish: mooring completion fish | source',
    isOffline: true,
    run({ output, args: [name] }) {
      const shell = SHELLS.find((each) => each === name);
      if (!shell) throw new UsageError(`There is completion for ${SHELLS.join(", ")}`);
      output.write(completion(shell, COMMANDS));
      return Promise.resolve();
    },
  },
];
