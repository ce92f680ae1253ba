/** How far a server is locked in: the controls of the Docker policy (dtma/policy.ts), and what loosens them. */
import type { Sandbox } from "../dtma/protocol.ts";
import { buildCodeOf, type ListedEntry, runsElsewhere } from "./catalog_entries.ts";
import type { ServerOptions } from "./server_options.ts";

export interface Control {
  /** What is in force, as one would say it of a container. */
  name: string;
  /** Why it is not in force for this server; null: it is. */
  loosened: string | null;
}

/** In force in every container whatever its server asks: there is no word by which to ask for less. */
export const FIXED_CONTROLS = [
  "Its image by its content, not by a name that could be moved",
  "A user without rights (65532), never root",
  "No capabilities at all",
  "No new privileges to be gained",
  "System calls by a list that is stricter than Docker's own",
  "A read-only image; what it may write is in memory, and cannot be executed",
  "No files, devices or sockets of the toolbox",
  "No published ports",
  "A bound on memory, without swap",
  "One processor at most",
  "128 processes and 1,024 open files at most",
  "Namespaces of its own for processes' memory and groups",
] as const;

/** What is known of a server that is to run, or of an entry that would. */
export interface Locked {
  entry: ListedEntry;
  options: ServerOptions;
  /** Names of its secrets that are not given as files in memory. */
  openSecrets: string[];
  /** Null: on the toolbox's own kernel. Undefined: not known before it runs. */
  sandbox: Sandbox | null | undefined;
}

/** Every control of a server's container, those that it loosens last. */
export function controlsOf({ entry, options, openSecrets, sandbox }: Locked): Control[] {
  const hosts = [...entry.network.hosts, ...options.hosts];
  const wide = hosts.filter((host) => host.includes("*"));
  const isRemote = runsElsewhere(entry.package);
  const code = buildCodeOf(entry);
  const controls: Control[] = [
    ...FIXED_CONTROLS.map((name) => ({ name, loosened: null })),
    {
      name: "No network at all",
      loosened: isRemote
        ? "It reaches the host of its URL"
        : hosts.length > 0
        ? `It reaches ${some(hosts)}`
        : null,
    },
    {
      name: "Each host that it reaches by its own name",
      loosened: wide.length > 0 ? `${some(wide)} stands for any number of hosts` : null,
    },
    {
      name: "Nothing kept on disk",
      loosened: entry.volumes.length > 0
        ? `It keeps data in a volume at ${some(entry.volumes.map(({ path }) => path))}`
        : null,
    },
    {
      name: "No secret in its environment or arguments",
      loosened: openSecrets.length > 0 ? `It is given ${some(openSecrets)}` : null,
    },
    {
      name: "Nothing of its own runs while its image is built",
      loosened: code === "dockerfile"
        ? "Its Dockerfile runs what it likes"
        : code === "install-scripts"
        ? "Its packages run install scripts"
        : null,
    },
    {
      name: "What runs is named exactly",
      loosened: isRemote
        ? "The server itself runs elsewhere, as whoever runs it likes"
        : entry.package.registry === "image"
        ? "Its catalog names a tag: the digest is kept from the deploy on"
        : null,
    },
    {
      name: "A kernel of its own (gVisor, Kata)",
      loosened: sandbox
        ? null
        : sandbox === null
        ? "It is on the toolbox's own kernel"
        : "Whether it gets a kernel of its own is its toolbox's to say, and seen once it runs",
    },
  ];
  return controls.toSorted((a, b) => Number(a.loosened !== null) - Number(b.loosened !== null));
}

function some(names: string[]): string {
  const rest = names.length - 6;
  return names.slice(0, 6).join(", ") + (rest > 0 ? ` and ${rest} more` : "");
}
