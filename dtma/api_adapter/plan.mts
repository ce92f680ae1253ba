/**
 * What the adapter of a REST API is given: its tools, and how each is asked for over HTTP. The app makes
 * it out of an OpenAPI document (models/openapi_operations.ts), so that neither DTMA nor the adapter reads one.
 */

/** JSON Schema, as tools have it. */
export type Schema = Record<string, unknown>;

export interface ApiPlan {
  version: 1;
  /** Of the document's `info`. */
  title: string;
  apiVersion: string;
  /** What the operations' paths are put behind: no query, and no slash at its end. */
  url: string;
  credentials: ApiCredential[];
  tools: ApiTool[];
}

/** Sent with each request to the API's own origin, if its variables have values. */
export interface ApiCredential {
  place: "header" | "query" | "cookie";
  name: string;
  scheme: "plain" | "bearer" | "basic";
  /** The variables of its values: of `basic` those of the user and of the password. */
  variables: string[];
}

export interface ApiTool {
  definition: {
    name: string;
    title?: string;
    description?: string;
    inputSchema: Schema;
    outputSchema?: Schema;
    annotations?: Record<string, unknown>;
  };
  method: string;
  /** With its parameters' names in braces. */
  path: string;
  parameters: ApiParameter[];
  body: ApiBody | null;
  accept: string;
}

/** One argument that goes into the path, the query, a header or a cookie. */
export interface ApiParameter {
  /** What the tool calls it. */
  argument: string;
  /** What the API calls it. */
  name: string;
  place: "path" | "query" | "header" | "cookie";
  style: "simple" | "label" | "matrix" | "form" | "spaceDelimited" | "pipeDelimited" | "deepObject";
  explode: boolean;
  isRequired?: boolean;
  /** It travels as JSON, whatever it is. */
  isJson?: boolean;
  /** Of RFC 3986's reserved characters those that cannot end the value stay as they are. */
  allowsReserved?: boolean;
}

/** The argument that is the request's body. */
export interface ApiBody {
  argument: string;
  mediaType: string;
  kind: "json" | "form" | "multipart" | "text" | "bytes";
  isRequired?: boolean;
  /** Of a form: what is known of its fields. */
  fields?: Record<string, ApiField>;
}

export interface ApiField {
  /** Its value is `{ data, filename, mediaType }`, or a list of such, with `data` in base64. */
  isFile?: boolean;
  mediaType?: string;
  style?: ApiParameter["style"];
  explode?: boolean;
}
