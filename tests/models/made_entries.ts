/** Catalog entries made by hand, one of each kind of package: none of these packages is real. */
import builtin from "../../models/catalog_builtin.json" with { type: "json" };
import { CatalogEntry } from "../../models/catalog_entries.ts";

const REVISION = "0123456789abcdef0123456789abcdef01234567";

const packages = {
  npm: { registry: "npm", name: "@made/up", version: "1.2.3", installScripts: false },
  "npm-scripts": { registry: "npm", name: "made-up", version: "2.0.0", installScripts: true },
  pypi: { registry: "pypi", name: "made_up", version: "1.0", command: "made-up-mcp" },
  "pypi-scripts": { registry: "pypi", name: "made-up", version: "1.1", installScripts: true },
  nuget: { registry: "nuget", name: "Made.Up", version: "3.0.1" },
  oci: {
    registry: "oci",
    image: "docker.io/made/up",
    digest: `sha256:abc${"0".repeat(61)}`,
    command: ["/bin/made-up", "<b>\u202e"],
  },
  source: {
    registry: "source",
    kind: "git",
    location: "https://git.example/made/up",
    revision: REVISION,
    dockerfile: "docker/Dockerfile",
  },
};

const made = (kind: string, changes: object) =>
  CatalogEntry.parse({
    ...builtin[0],
    slug: `made-${kind}`,
    title: `Made ${kind}`,
    arguments: [],
    environment: [],
    volumes: [],
    ...changes,
  });

/** A real package that serves HTTP when it is told to, as its entry tells it. */
const overHttp = made("http", {
  package: builtin.find(({ slug }) => slug === "everything")!.package,
  arguments: [{ name: "transport", type: "positional", value: "streamableHttp" }],
  environment: [{ name: "PORT", value: "3001" }],
  transport: { type: "streamable-http", port: 3001, path: "/mcp" },
});

/** Each by its slug, `made-` and its kind. */
export const MADE_ENTRIES: CatalogEntry[] = [
  ...Object.entries(packages).map(([kind, wanted]) => made(kind, { package: wanted })),
  overHttp,
];

/** @throws when there is none of this kind */
export function madeEntry(kind: keyof typeof packages | "http"): CatalogEntry {
  return MADE_ENTRIES.find(({ slug }) => slug === `made-${kind}`)!;
}
