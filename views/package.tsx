import type { ListedEntry } from "../models/catalog_entries.ts";
import { visibleText } from "./visible_text.ts";

type Package = ListedEntry["package"];

const REGISTRIES: Record<Package["registry"], string> = {
  npm: "npm",
  pypi: "PyPI",
  nuget: "NuGet",
  oci: "image",
  image: "image",
  source: "source",
  remote: "remote",
  openapi: "REST API",
  other: "other",
};

/** Whether what runs here is an adapter of Mooring's own, before what runs elsewhere. */
export function isElsewhere({ registry }: Pick<Package, "registry">): boolean {
  return registry === "remote" || registry === "openapi";
}

/** Where a package comes from, in a word or two. */
export function registryName({ registry }: Pick<Package, "registry">): string {
  return REGISTRIES[registry];
}

/** A package by its registry, on one line: `npm · @scope/name 1.2.3`, `image · host/name@sha256:abc…`. */
export function packageTitle(wanted: Package): string {
  const registry = registryName(wanted);
  switch (wanted.registry) {
    case "oci":
      return `${registry} · ${wanted.image}@${wanted.digest.slice(0, 19)}…`;
    case "source":
      return `${registry} · ${visibleText(wanted.location)}@${wanted.revision.slice(0, 12)}…`;
    case "image":
      return `${registry} · ${wanted.image}:${wanted.tag}`;
    case "remote":
    case "openapi":
      return `${registry} · ${visibleText(wanted.url)}`;
    case "other":
      return visibleText([wanted.type, wanted.name].filter(Boolean).join(" · "));
    default:
      return `${registry} · ${wanted.name} ${wanted.version}`;
  }
}

/** A package's rows in a list of facts: its title, and whole what the title cuts short. */
export function PackageFacts({ of: wanted }: { of: Package }) {
  const command = "command" in wanted && wanted.command;
  return (
    <>
      <dt>Package</dt>
      <dd>
        <code>{packageTitle(wanted)}</code>
      </dd>
      {wanted.registry === "oci" && (
        <>
          <dt>Digest</dt>
          <dd>
            <code class="digest">{wanted.digest}</code>
          </dd>
        </>
      )}
      {wanted.registry === "image" && (
        <>
          <dt>Digest</dt>
          <dd>
            Looked up when you deploy, and kept from then on: whoever owns the tag cannot put
            another image in its place.
          </dd>
        </>
      )}
      {wanted.registry === "source" && (
        <>
          <dt>Commit</dt>
          <dd>
            <code class="digest">{wanted.revision}</code>
          </dd>
          <dt>Built by</dt>
          <dd>
            <code>{visibleText(wanted.dockerfile)}</code>{" "}
            {wanted.kind === "git" ? "of the git repository" : "of the folder on the toolbox"}
          </dd>
        </>
      )}
      {command && (
        <>
          <dt>Started by</dt>
          <dd>
            <code>{visibleText(typeof command === "string" ? command : command.join(" "))}</code>
          </dd>
        </>
      )}
    </>
  );
}
