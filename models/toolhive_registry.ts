/** Imports ToolHive's `registry.json`: servers in containers, and remote ones. */
import { HostPort } from "../dtma/protocol.ts";
import type { Argument, ListedEntry, NamedTool } from "./catalog_entries.ts";
import {
  BLANK,
  type Found,
  httpTransport,
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
  variableName,
} from "./imported.ts";

type Fields = Record<string, unknown>;

/**
 * @param name its key in `servers` or `remote_servers`
 * @throws {import("./imported.ts").Unreadable}
 */
export function importToolHiveServer(name: string, value: unknown, raw: string): Imported {
  const server = objectOf(value), custom = objectOf(server.custom_metadata);
  const tags = listOf(server.tags, 50);
  const isRemote = "url" in server;
  const image = line(server.image, 300);
  const found: Found = {
    name,
    title: server.title,
    description: server.description,
    version: isRemote ? "" : image.split(/[:@]/).at(-1),
    category: tags.find((tag) => tag !== "remote"),
    homepages: [custom.homepage, server.repository_url],
    license: custom.license,
    keywords: [...tags, image, custom.author],
    tools: listOf(server.tools).map((tool): NamedTool => ({ name: line(tool, 200) })),
    publishedAt: objectOf(server.metadata).last_updated,
    notes: [
      ...line(server.status, 20) === "Deprecated" ? ["Its registry calls it deprecated"] : [],
      ...server.oauth_config || tags.includes("oauth") ? ["It asks people to sign in (OAuth)"] : [],
    ],
    kind: isRemote
      ? { type: "remote", name: line(server.url, 500) }
      : { type: "image", name: image },
    needs: (notes) => isRemote ? ofRemote(server) : ofImage(server, image, notes),
  };
  return imported(raw, found);
}

function ofRemote(server: Fields): Needs {
  const headers = listOf(server.headers, 50).map(objectOf).map((header) => ({
    name: header.name,
    input: {
      ...BLANK,
      description: plainText(header.description, 1000) || undefined,
      isRequired: header.required === true,
      isSecret: true,
    },
  }));
  return remoteNeeds(server.url, headers);
}

function ofImage(server: Fields, image: string, notes: string[]): Needs {
  const type = line(server.transport, 40) || "stdio", port = Number(server.target_port);
  const path = type === "sse" ? "/sse" : "/mcp";
  const transport = type === "stdio" ? undefined : httpTransport(type, port, path);
  const asked = listOf(server.env_vars, 200).map(objectOf).map((variable) => ({
    ...BLANK,
    name: variableName(variable.name),
    description: plainText(variable.description, 1000) || undefined,
    isRequired: variable.required === true,
    isSecret: variable.secret === true,
    default: variable.secret === true ? undefined : line(variable.default, 4096) || undefined,
    isFile: false,
  }));
  return {
    package: imageOf(image),
    transport,
    arguments: listOf(server.args, 64).map((word, index): Argument => ({
      ...BLANK,
      name: `argument ${index + 1}`,
      type: "positional",
      isRepeated: false,
      value: String(word).slice(0, 4096),
    })),
    environment: [
      ...(transport ? httpEnvironment(type, port) : []).filter(({ name }) =>
        !asked.some((variable) => variable.name === name)
      ),
      ...asked,
    ],
    hosts: permittedHosts(server.permissions, notes),
  };
}

/** By which ToolHive tells a server in a container where to listen (its pkg/transport/http.go). */
function httpEnvironment(type: string, port: number): ListedEntry["environment"] {
  const fixed = {
    MCP_TRANSPORT: type,
    MCP_HOST: "127.0.0.1",
    MCP_PORT: String(port),
    FASTMCP_PORT: String(port),
  };
  return Object.entries(fixed).map(([name, value]) => ({ ...BLANK, name, value, isFile: false }));
}

/**
 * The hosts of ToolHive's permissions: hosts times ports; `.example.com` is any name below.
 *
 * @throws {Obstacle} they hold more than hosts
 */
export function permittedHosts(value: unknown, notes: string[]): string[] {
  const permissions = objectOf(value);
  if (listOf(permissions.read).length + listOf(permissions.write).length > 0) {
    throw new Obstacle("It needs a folder of the host, and no server gets one");
  }
  if (permissions.privileged === true) throw new Obstacle("It needs a privileged container");
  const outbound = objectOf(objectOf(permissions.network).outbound);
  const ports = listOf(outbound.allow_port, 16).length > 0
    ? listOf(outbound.allow_port, 16)
    : [443];
  if (outbound.insecure_allow_all === true) {
    notes.push("Its registry lets it reach any host; take away what it does not need");
    return [...new Set(ports)].map((port) => `*:${Number(port)}`);
  }
  const hosts = listOf(outbound.allow_host, 64);
  if (hosts.length === 0) {
    return Object.keys(outbound).length > 0 ? [] : noHosts(notes);
  }
  return hosts.flatMap((host) =>
    ports.map((port) => {
      const name = String(host).toLowerCase().replace(/^\./, "*.");
      const parsed = HostPort.safeParse(`${name}:${Number(port)}`);
      if (!parsed.success) throw new Obstacle(`“${line(host, 100)}” is no host to be allowed`);
      return parsed.data;
    })
  );
}
