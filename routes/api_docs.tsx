import { Hono } from "hono";
import { ApiDocs } from "../views/api_docs.tsx";
import { type OpenApi, openApi } from "./api/openapi.ts";
import { PROBLEMS } from "./api/problems.ts";
import type { Deps, Env } from "./deps.ts";
import { page } from "./render.tsx";

/** The API's page, made of its OpenAPI document. */
export function apiDocsRoutes({ baseUrl, version }: Deps) {
  let document: OpenApi | undefined;
  return new Hono<Env>().get("/api", (c) => {
    document ??= openApi(baseUrl, version);
    return page(c, "API", <ApiDocs document={document} problems={PROBLEMS} />);
  });
}
