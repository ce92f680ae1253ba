import type { SourceShape } from "../routes/api/catalog_sources.ts";
import type { Client } from "./client.ts";
import { type Command, numberIn, UsageError } from "./command.ts";
import { NothingSo } from "./find.ts";
import { ago } from "./output.ts";
import { confirm } from "./prompt.ts";

export const sourceCommands: Command[] = [
  {
    words: "sources list",
    summary: "List where the catalog comes from, beside what is built in",
    async run({ client, output }) {
      output.list(await client.list<SourceShape>("/catalog-sources"), {
        slug: ({ slug }) => slug,
        kind: ({ kind }) => kind,
        entries: ({ entries }) => entries,
        broken: ({ broken }) => broken,
        synced: ({ isSyncing, lastSync }) => isSyncing ? "now" : ago(lastSync?.at ?? null),
        state: ({ lastSync }) => lastSync?.reason ?? lastSync?.state ?? "",
        name: ({ name }) => name,
      }, "There is no source beside what is built in. Add one with `sources add`.");
    },
  },
  {
    words: "sources add",
    summary: "Add a registry, or a file or an archive by its address",
    arguments: ["<name>", "<url>"],
    options: {
      registry: { help: "It is the API of a registry, and no file" },
      every: { value: "MINUTES", help: "Syncs it so often; else on demand" },
    },
    async run(line) {
      const { client, output, args: [name, url], flag } = line;
      const source = await client.create<SourceShape>("/catalog-sources", {
        name,
        url,
        kind: flag("registry") ? "registry" : "url",
        syncEveryMinutes: numberIn(line, "every") ?? null,
      });
      output.done(source, `Added as ${source.slug}; it is being synced`);
    },
  },
  {
    words: "sources sync",
    summary: "Have a source synced now",
    arguments: ["<source>"],
    async run({ client, output, args: [name] }) {
      const { id, slug } = await sourceOf(client, name);
      output.done(await client.post(`/catalog-sources/${id}/sync`), `${slug} is being synced`);
    },
  },
  {
    words: "sources remove",
    summary: "Remove a source with its entries",
    arguments: ["<source>"],
    options: { yes: { help: "Without being asked" } },
    async run({ client, output, args: [name], flag }) {
      const { id, slug, entries, servers } = await sourceOf(client, name);
      const what = `${slug} goes with its ${entries} entries; servers that came of them ` +
        `(${servers}) stay.`;
      confirm(flag("yes"), what);
      await client.delete(`/catalog-sources/${id}`);
      output.done({ id }, `${slug} is removed`);
    },
  },
];

async function sourceOf(client: Client, name: string): Promise<SourceShape> {
  const all = await client.list<SourceShape>("/catalog-sources");
  const found = all.filter((source) => [source.id, source.slug, source.name].includes(name));
  if (found.length > 1) throw new UsageError(`${found.length} are called ${name}: give its slug`);
  if (found.length === 0) throw new NothingSo(`There is no catalog source ${name}`);
  return found[0];
}
