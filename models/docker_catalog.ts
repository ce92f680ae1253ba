/**
 * Imports Docker's MCP catalog: a `server.yaml` for each server, in a folder of its own, with the tools
 * that it lists in `tools.json` beside it.
 */
import { HostPort } from "../dtma/protocol.ts";
import type { Argument, Input, NamedTool, Variable } from "./catalog_entries.ts";
import {
  BLANK,
  type Found,
  imageOf,
  type Imported,
  imported,
  line,
  listOf,
  type Needs,
  noHosts,
  objectOf,
  Obstacle,
  plainText,
  remoteNeeds,
  Unreadable,
  variableName,
  volumeAt,
} from "./imported.ts";

type Fields = Record<string, unknown>;

/**
 * @param value a parsed `server.yaml`
 * @param tools a parsed `tools.json`, where there is one
 * @throws {Unreadable}
 */
export function importDockerServer(value: unknown, raw: string, tools: unknown = []): Imported {
  const server = objectOf(value);
  const type = line(server.type, 40);
  if (!["server", "remote", "poci"].includes(type)) {
    throw new Unreadable(`It is no server.yaml of Docker's catalog: its type is “${type}”`);
  }
  const about = objectOf(server.about), meta = objectOf(server.meta);
  const source = objectOf(server.source), remote = objectOf(server.remote);
  const oauth = listOf(server.oauth).map((each) => line(objectOf(each).provider, 80));
  const named = listOf(tools).length > 0 ? listOf(tools) : listOf(server.tools);
  const found: Found = {
    name: server.name,
    title: about.title,
    description: about.description,
    version: line(source.commit, 100).slice(0, 12),
    category: meta.category,
    homepages: [source.project, source.upstream],
    keywords: [...listOf(meta.tags, 50), server.image],
    tools: named.map(objectOf).map((tool): NamedTool => ({
      name: line(tool.name, 200),
      description: plainText(tool.description, 500),
    })),
    notes: [
      ...oauth.length > 0 ? [`It asks people to sign in with ${oauth.join(", ")} (OAuth)`] : [],
      ...server.requirement ? [`It needs ${line(server.requirement, 80)} to run beside it`] : [],
    ],
    kind: type === "remote"
      ? { type, name: line(remote.url, 500) }
      : { type: type === "poci" ? "containers" : "image", name: line(server.image, 500) },
    needs: (notes) => {
      if (type === "poci") {
        if (raw.includes("docker.sock")) throw dockerSocket();
        throw new Obstacle("Each of its tools is a container of its own, which no MCP server runs");
      }
      return type === "remote" ? ofRemote(server, remote) : ofImage(server, notes);
    },
  };
  return imported(raw, found);
}

function dockerSocket(): Obstacle {
  return new Obstacle(
    "It needs the Docker socket, and no server gets it: who has it owns the host",
  );
}

function ofRemote(server: Fields, remote: Fields): Needs {
  const secrets = new Map(
    listOf(objectOf(server.config).secrets).map(objectOf).map((secret) => [secret.env, secret]),
  );
  const headers = Object.entries(objectOf(remote.headers)).map(([name, value]) => {
    const variables: Record<string, Variable> = {};
    const template = String(value).replace(/\$\{(\w{1,40})\}/g, (_, variable: string) => {
      variables[variable] = secretInput(objectOf(secrets.get(variable)), variable, false);
      return `{${variable}}`;
    });
    return {
      name,
      input: {
        ...BLANK,
        value: template,
        variables: Object.keys(variables).length > 0 ? variables : undefined,
      },
    };
  });
  return remoteNeeds(remote.url, headers);
}

function ofImage(server: Fields, notes: string[]): Needs {
  const run = objectOf(server.run), config = objectOf(server.config);
  const wanted = imageOf(line(server.image, 300));
  const volumes = listOf(run.volumes).concat(listOf(config.volumes)).map(String).map((volume) => {
    if (volume.includes("docker.sock")) throw dockerSocket();
    const [, name, path] = /^([A-Za-z0-9][\w.-]*):(\/[^:]*)(?::\w+)?$/.exec(volume) ?? [];
    if (!name) throw new Obstacle("It needs a folder of the host, and no server gets one");
    return volumeAt(name, path);
  });
  if (run.user) {
    notes.push("Its wish for another user is left out: every server runs as user 65532");
  }
  const parameters = new Parameters(server);
  const secrets = listOf(config.secrets, 200).map(objectOf);
  // Docker's catalog rarely says which it needs; of several some are alternatives to others.
  const isSecretNeeded = secrets.length === 1;
  const environment = [
    ...secrets.map((secret) => ({
      ...secretInput(secret, line(secret.env, 80), isSecretNeeded),
      name: variableName(secret.env),
      isFile: false,
    })),
    ...listOf(config.env, 200).map(objectOf).map((variable) => ({
      ...variable.value === undefined
        ? { ...BLANK, default: line(variable.default, 4096) || undefined }
        : parameters.inputOf(variable.value, variable),
      name: variableName(variable.name),
      isFile: false,
    })),
    ...Object.entries(objectOf(run.env)).map(([name, value]) => ({
      ...parameters.inputOf(value, {}),
      name: variableName(name),
      isFile: false,
    })),
  ];
  const seen = new Set<string>();
  const hosts = listOf(run.allowHosts, 64).map((host) => {
    const wanted = /:\d+$/.test(String(host)) ? String(host) : `${host}:443`;
    const parsed = HostPort.safeParse(wanted.toLowerCase());
    if (!parsed.success) throw new Obstacle(`“${line(host, 100)}” is no host to be allowed`);
    return parsed.data;
  });
  return {
    package: wanted,
    arguments: listOf(run.command, 64).map((word, index): Argument => ({
      ...parameters.inputOf(word, {}),
      name: `argument ${index + 1}`,
      type: "positional",
      isRepeated: false,
    })),
    environment: environment.filter(({ name }) => !seen.has(name) && seen.add(name)),
    hosts: hosts.length > 0 || run.disableNetwork === true ? hosts : noHosts(notes),
    volumes,
  };
}

function secretInput(secret: Fields, name: string, isRequired: boolean): Variable {
  return {
    name: line(name, 128) || "secret",
    description: plainText(secret.description, 1000) || undefined,
    isRequired: typeof secret.required === "boolean" ? secret.required : isRequired,
    isSecret: true,
    format: "string",
    placeholder: line(secret.example, 200) || undefined,
  };
}

/** The parameters of an entry (a JSON Schema), which its environment and command name as `{{server.path}}`. */
class Parameters {
  #properties: Fields;
  #required: unknown[];

  constructor(server: Fields) {
    const config = objectOf(server.config);
    const schema = config.parameters ? objectOf(config.parameters) : config;
    this.#properties = objectOf(schema.properties);
    this.#required = listOf(schema.required);
  }

  /** A template as the input that it asks, or the template with its variables; text is a fixed value. */
  inputOf(value: unknown, variable: Fields): Input {
    const text = typeof value === "string" ? value : value === undefined ? "" : String(value);
    if (text.length > 4096) throw new Obstacle("One of its values is too long");
    const names: Record<string, Variable> = {};
    const template = text.replace(/\{\{\s*([^{}]*?)\s*\}\}/g, (_, path: string) => {
      const [name, ...filters] = path.split("|");
      if (filters.length > 0) {
        throw new Obstacle(
          filters.some((filter) => filter.startsWith("volume"))
            ? "It needs a folder of the host, and no server gets one"
            : `Mooring does not know its template {{${line(path, 60)}}}`,
        );
      }
      const key = name.replace(/[^A-Za-z0-9_]+/g, "_").slice(0, 40);
      names[key] = this.#variable(name, variable);
      return `{${key}}`;
    });
    const variables = Object.values(names);
    const description = plainText(variable.description, 1000) || undefined;
    if (variables.length === 0) return { ...BLANK, description, value: text };
    // Nothing but the one parameter: it is asked itself.
    return /^\{\w+\}$/.test(template)
      ? variables[0]
      : { ...BLANK, description, value: template, variables: names };
  }

  #variable(path: string, variable: Fields): Variable {
    // The first part is the server's name, mostly.
    const parts = path.split(".");
    const [schema, isRequired] = this.#at(parts.slice(1)) ?? this.#at(parts) ??
      [{} as Fields, false];
    const type = schema.type;
    const choices = listOf(schema.enum, 100).map((choice) => line(choice, 200)).filter(Boolean);
    const fallback = schema.default ?? variable.default;
    return {
      name: line(parts.at(-1), 128) || "value",
      label: line(variable.name ?? parts.at(-1), 120) || undefined,
      description: plainText(schema.description ?? variable.description, 1000) || undefined,
      isRequired: isRequired || variable.required === true,
      isSecret: false,
      format: type === "integer" || type === "number"
        ? "number"
        : type === "boolean"
        ? "boolean"
        : "string",
      default: ["string", "number", "boolean"].includes(typeof fallback)
        ? line(fallback, 4096) || undefined
        : undefined,
      placeholder: line(schema.example ?? variable.example, 200) || undefined,
      choices: choices.length > 0 ? choices : undefined,
    };
  }

  #at(parts: string[]): [Fields, boolean] | null {
    let properties = this.#properties, required = this.#required;
    let schema: Fields | null = null, isRequired = true;
    for (const part of parts) {
      if (!Object.hasOwn(properties, part)) return null;
      schema = objectOf(properties[part]);
      isRequired &&= required.includes(part);
      properties = objectOf(schema.properties);
      required = listOf(schema.required);
    }
    return schema && [schema, isRequired];
  }
}
