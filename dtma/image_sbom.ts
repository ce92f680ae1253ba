/** Bills of materials: what is in a server's image, as far as its package says. */
import type { Package } from "./protocol.ts";
import { DTMA_VERSION } from "./version.ts";

export interface Component {
  type: "library" | "application";
  "bom-ref": string;
  name: string;
  version: string;
  purl: string;
  hashes?: { alg: string; content: string }[];
  licenses?: ({ expression: string } | { license: { name: string } })[];
}

/**
 * A CycloneDX 1.6 document of one image.
 * @param installed npm's or pip's record of what it installed; null when nothing tells more than the
 *   package's own name. Packages of the base image's system are not listed, and the document says so.
 * @see https://cyclonedx.org/docs/1.6/json/
 */
export async function billOfMaterials(
  imageId: string,
  wanted: Package,
  installed: Uint8Array | null,
): Promise<Record<string, unknown> & { components: Component[] }> {
  const text = installed ? new TextDecoder().decode(installed) : "";
  const components = wanted.registry === "npm" && installed
    ? npmComponents(text)
    : wanted.registry === "pypi" && installed
    ? pypiComponents(text)
    : [itself(wanted)];
  const bytes = new TextEncoder().encode(imageId);
  const hex = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
  return {
    $schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    // Of the image's id (a version 8 UUID, RFC 9562): one image, one document.
    serialNumber: `urn:uuid:${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-a` +
      `${hex.slice(17, 20)}-${hex.slice(20, 32)}`,
    version: 1,
    metadata: {
      component: { type: "container", "bom-ref": imageId, name: imageId },
      tools: { components: [{ type: "application", name: "Mooring DTMA" }] },
    },
    components,
    compositions: [{ aggregate: "incomplete", assemblies: [imageId] }],
  };
}

function npmComponents(text: string): Component[] {
  const { packages } = JSON.parse(text) as {
    packages: Record<
      string,
      { version?: string; integrity?: string; license?: unknown; link?: boolean; name?: string }
    >;
  };
  const found = Object.entries(packages).flatMap(([path, each]): Component[] => {
    const name = each.name ?? path.split("node_modules/").at(-1)!;
    if (path === "" || each.link || !each.version) return [];
    const purl = `pkg:npm/${name.replace("@", "%40")}@${encodeURIComponent(each.version)}`;
    return [{
      type: "library",
      "bom-ref": purl,
      name,
      version: each.version,
      purl,
      ...hashes(each.integrity),
      ...(typeof each.license === "string" && {
        licenses: [{ license: { name: each.license } }],
      }),
    }];
  });
  return unique(found);
}

/** Subresource integrity's words (SRI) in CycloneDX's. */
function hashes(integrity?: string): Pick<Component, "hashes"> {
  const [, bits, base64] = /^sha(256|384|512)-([A-Za-z0-9+/=]+)/.exec(integrity ?? "") ?? [];
  if (!base64) return {};
  const content = Uint8Array.fromBase64(base64).toHex();
  return { hashes: [{ alg: `SHA-${bits}`, content }] };
}

/** Lines of `name==version --hash=sha256:...`, as install.py writes them. */
function pypiComponents(text: string): Component[] {
  const lines = text.matchAll(/^([A-Za-z0-9._-]+)==(\S+) --hash=sha256:([0-9a-f]{64})$/gm);
  return unique(
    [...lines].map(([, name, version, content]): Component => {
      const purl = pypiPurl(name, version);
      const hashes = [{ alg: "SHA-256", content }];
      return { type: "library", "bom-ref": purl, name, version, purl, hashes };
    }),
  );
}

function pypiPurl(name: string, version: string): string {
  const normalized = name.toLowerCase().replaceAll(/[-_.]+/g, "-");
  return `pkg:pypi/${normalized}@${encodeURIComponent(version)}`;
}

function itself(wanted: Package): Component {
  const [name, version, purl] = identity(wanted);
  return { type: "application", "bom-ref": purl, name, version, purl };
}

/** @see https://github.com/package-url/purl-spec/blob/main/PURL-TYPES.rst */
function identity(wanted: Package): [name: string, version: string, purl: string] {
  switch (wanted.registry) {
    case "npm": {
      const { name, version } = wanted;
      return [
        name,
        version,
        `pkg:npm/${name.replace("@", "%40")}@${encodeURIComponent(version)}`,
      ];
    }
    case "pypi":
      return [wanted.name, wanted.version, pypiPurl(wanted.name, wanted.version)];
    case "nuget":
      return [wanted.name, wanted.version, `pkg:nuget/${wanted.name}@${wanted.version}`];
    case "oci": {
      const { image, digest } = wanted;
      const name = image.slice(image.lastIndexOf("/") + 1);
      const at = encodeURIComponent(digest);
      return [image, digest, `pkg:oci/${name}@${at}?repository_url=${encodeURIComponent(image)}`];
    }
    case "source": {
      const { location, revision, kind } = wanted;
      const name = location.slice(location.lastIndexOf("/") + 1);
      const from = kind === "git"
        ? `?vcs_url=${encodeURIComponent(`git+${location}@${revision}`)}`
        : "";
      return [location, revision, `pkg:generic/${encodeURIComponent(name)}@${revision}${from}`];
    }
    case "remote":
      // What runs elsewhere is not in the image; the adapter is of this DTMA.
      return [
        "mooring-remote-adapter",
        DTMA_VERSION,
        `pkg:generic/mooring-remote-adapter@${DTMA_VERSION}`,
      ];
    case "openapi":
      return [
        "mooring-api-adapter",
        DTMA_VERSION,
        `pkg:generic/mooring-api-adapter@${DTMA_VERSION}`,
      ];
  }
}

/** npm may have one version in several places; a document names it once. */
function unique(components: Component[]): Component[] {
  return [...new Map(components.map((each) => [each.purl, each])).values()]
    .sort((a, b) => a.purl < b.purl ? -1 : 1);
}
