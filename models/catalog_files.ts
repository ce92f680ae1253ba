/** Files as entries of a catalog: what each of them is, by what stands in it. */
import { parse as parseYaml } from "yaml";
import { importDockerServer } from "./docker_catalog.ts";
import { type Broken, brokenAt, type Import, importEach, objectOf } from "./imported.ts";
import { importServerJson } from "./server_json.ts";
import { importToolHiveServer } from "./toolhive_registry.ts";

export interface CatalogFile {
  path: string;
  text: string;
}

/** The files of a folder that can be of a catalog. */
export function isCatalogFile(path: string): boolean {
  return /(^|\/)(server|catalog|registry)\.ya?ml$|\.json$/i.test(path) &&
    !/(^|\/)(\.[^/]+|node_modules|package(-lock)?\.json|tsconfig[^/]*\.json|[^/]*\.schema\.json)(\/|$)/i
      .test(path);
}

/** Most entries that one set of files may have. */
const ENTRIES_LIMIT = 50_000;

/**
 * Imports a set of files: `server.json` or a list of them, an answer of the official registry's API,
 * ToolHive's `registry.json`, Docker's `server.yaml` with its `tools.json`.
 *
 * @param isStrict each file is meant to be an entry: one that is something else is broken, not passed over
 */
export function importFiles(files: CatalogFile[], isStrict: boolean): Import {
  const entries: Import["entries"] = [], broken: Broken[] = [];
  const add = (found: Import) => {
    entries.push(...found.entries);
    broken.push(...found.broken);
  };
  const toolsBeside = new Map(
    files.filter(({ path }) => /(^|\/)tools\.json$/.test(path))
      .map(({ path, text }) => [path.replace(/tools\.json$/, ""), text]),
  );
  for (const { path, text } of files) {
    if (entries.length > ENTRIES_LIMIT) {
      broken.push(brokenAt(path, `There are more than ${ENTRIES_LIMIT} entries`, ""));
      break;
    }
    const folder = path.replace(/[^/]*$/, "");
    const isYaml = /\.ya?ml$/i.test(path);
    // A tools.json is a part of its neighbour.
    if (
      /(^|\/)tools\.json$/.test(path) && files.some((file) => file.path === `${folder}server.yaml`)
    ) {
      continue;
    }
    const value = isYaml ? readYaml(text) : readJson(text);
    if (value instanceof Error) {
      if (isStrict || /(^|\/)server\.(json|ya?ml)$/.test(path)) {
        broken.push(brokenAt(path, value.message, text));
      }
    } else if (isYaml) {
      const tools = readJson(toolsBeside.get(folder) ?? "[]");
      add(
        importEach(
          [{ place: path, raw: text, value }],
          (each, raw) => importDockerServer(each, raw, tools instanceof Error ? [] : tools),
        ),
      );
    } else {
      const found = importJson(path, text, value);
      if (found) add(found);
      else if (isStrict) {
        broken.push(
          brokenAt(path, "It is no server.json, no list of them and no registry.json", text),
        );
      }
    }
  }
  return { entries, broken };
}

/** Null: it is something else. */
function importJson(path: string, text: string, value: unknown): Import | null {
  // ToolHive's registry in the official format has its list under `data`.
  const outer = objectOf(value), inner = objectOf(outer.data);
  const list = Array.isArray(value) ? value : outer.servers ?? inner.servers;
  if (Array.isArray(list)) {
    if (list.length > 0 && !list.some((each) => isServer(each))) return null;
    return importEach(
      list.slice(0, ENTRIES_LIMIT).map((each, index) => ({
        place: placeOf(path, index, each),
        raw: JSON.stringify(each, null, 1) ?? "null",
        value: each,
      })),
      importServerJson,
    );
  }
  const fields = outer;
  if ("servers" in fields || "remote_servers" in fields) {
    const servers = [
      ...Object.entries(objectOf(fields.servers)),
      ...Object.entries(objectOf(fields.remote_servers)),
    ].slice(0, ENTRIES_LIMIT);
    return importEach(
      servers.map(([name, each]) => ({
        place: `${path}: ${name}`,
        raw: JSON.stringify(each, null, 1),
        value: [name, each] as const,
      })),
      ([name, each], raw) => importToolHiveServer(name, each, raw),
    );
  }
  return isServer(value) ? importEach([{ place: path, raw: text, value }], importServerJson) : null;
}

/** Where an entry stands: a number says nothing once the list is another, so its name too. */
export function placeOf(path: string, index: number, value: unknown): string {
  const fields = objectOf(value);
  const name = objectOf(fields.server ?? value).name;
  return `${path}[${index}]${typeof name === "string" ? ` ${name.slice(0, 100)}` : ""}`;
}

/** Whether it means to be a `server.json`, however broken. */
function isServer(value: unknown): boolean {
  const fields = objectOf(value), server = objectOf(fields.server ?? value);
  return "name" in server &&
    ["description", "packages", "remotes", "version", "version_detail", "$schema"]
      .some((member) => member in server);
}

/** Deeper than any catalog, and short of what overflows a stack. */
const DEPTH_LIMIT = 64;

export function readJson(text: string): unknown | SyntaxError {
  try {
    const value = JSON.parse(text.replace(/^\ufeff/, ""));
    return isDeeper(value, DEPTH_LIMIT) ? new SyntaxError("It is nested too deeply") : value;
  } catch (error) {
    return error instanceof RangeError
      ? new SyntaxError("It is nested too deeply")
      : new SyntaxError(`It is no JSON: ${(error as Error).message.slice(0, 200)}`);
  }
}

function readYaml(text: string): unknown | SyntaxError {
  if (text.length > 1024 * 1024) return new SyntaxError("It is longer than 1 MiB");
  try {
    // Aliases are bounded: each may repeat what is large already ("billion laughs").
    const value = parseYaml(text, { maxAliasCount: 50, logLevel: "error" });
    return isDeeper(value, DEPTH_LIMIT) ? new SyntaxError("It is nested too deeply") : value;
  } catch (error) {
    return new SyntaxError(
      `It is no YAML: ${(error as Error).message.split("\n")[0].slice(0, 200)}`,
    );
  }
}

function isDeeper(value: unknown, than: number): boolean {
  if (value === null || typeof value !== "object") return false;
  return than === 0 || Object.values(value).some((member) => isDeeper(member, than - 1));
}
