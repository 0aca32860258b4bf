/**
 * Request bodies: JSON, form, multipart, each with its limits, read from the whole buffer so that nothing is half-handled;
 * and NDJSON, handed on as a stream of lines.
 */
import type { Readable } from 'node:stream';
import { Busboy } from '@fastify/busboy';
import qs from 'qs';
import { Failure, fail } from './failure.ts';
import { JsonError, parseJson, textFault } from './json.ts';
import { type Lines, ndjsonTypes, readLines } from './ndjson.ts';

/** A file of a multipart body. The client's name for it is not kept: nothing may depend on it. */
export class UploadedFile {
  readonly bytes: Buffer;
  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }
}

export type Body =
  | {
      /** How it came: a form has only text. An absent boolean of a PUT stays, unlike in DRF: silence withdraws no consent. */
      readonly kind: 'none' | 'json' | 'form' | 'multipart';
      /** JSON value, or an object of texts, lists and files; undefined when there was no body. */
      readonly value: unknown;
    }
  | {
      /** As it was sent. */
      readonly kind: 'raw';
      readonly value: string;
    }
  | {
      readonly kind: 'ndjson';
      readonly value: undefined;
      /** Lines as they come, in batches; to be gone through once. What is no JSON in them is the route's to find. */
      readonly lines: Lines;
    };

const none: Body = { kind: 'none', value: undefined };
const JSON_LIMIT = 1024 * 1024;

/** Kinds of bodies that a route can read. */
export type Kind = 'json' | 'form' | 'multipart' | 'ndjson';

function kindOf(contentType: string): Kind | undefined {
  const type = contentType.split(';', 1)[0]!.trim().toLowerCase();
  if (type === 'application/json' || (type.startsWith('application/') && type.endsWith('+json'))) return 'json';
  if (type === 'application/x-www-form-urlencoded') return 'form';
  if (type === 'multipart/form-data') return 'multipart';
  if (ndjsonTypes.includes(type)) return 'ndjson';
  return undefined;
}

function decode(raw: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(raw);
  } catch {
    fail('malformed', { values: { detail: 'The body is not UTF-8.' } });
  }
}

/**
 * Reads a request body.
 * @param raw the bytes, undefined when the request had none; of NDJSON the stream of them
 * @param reads the kinds this route takes
 * @throws unsupported_media_type, malformed (with the reason), too_large, invalid (NUL, half a surrogate pair, nesting)
 */
export async function readBody(
  raw: Buffer | Readable | undefined,
  { headers }: { headers: Readonly<Record<string, string | undefined>> },
  reads: readonly Kind[],
): Promise<Body> {
  const contentType = headers['content-type'];
  if (raw !== undefined && !Buffer.isBuffer(raw)) {
    if (!reads.includes('ndjson')) fail('unsupported_media_type', { values: { type: contentType ?? '' } });
    refuseCoding(headers['content-encoding']);
    return { kind: 'ndjson', value: undefined, lines: readLines(raw) };
  }
  if (raw === undefined || raw.length === 0) {
    // Empty with a type is an empty change (DRF); a type we do not read is refused even then.
    if (contentType === undefined) return none;
    const kind = kindOf(contentType);
    if (kind === undefined || kind === 'ndjson' || !reads.includes(kind))
      fail('unsupported_media_type', { values: { type: contentType } });
    if (kind === 'multipart')
      fail('malformed', { values: { detail: 'Multipart form parse error - the body is empty.' } });
    return { kind, value: {} };
  }
  const kind = kindOf(contentType ?? '');
  if (kind === undefined || kind === 'ndjson' || !reads.includes(kind))
    fail('unsupported_media_type', { values: { type: contentType ?? '' } });
  refuseCoding(headers['content-encoding']);
  if (kind !== 'multipart' && raw.length > JSON_LIMIT) fail('too_large', { values: { limit: '1 MiB' } });
  const value =
    kind === 'json' ? readJson(raw) : kind === 'form' ? readForm(decode(raw)) : await readMultipart(raw, contentType!);
  const fault = textFault(value);
  if (fault !== undefined) {
    throw new Failure('invalid', { complaints: [{ path: fault.path, key: `invalid.${fault.fault}` }] });
  }
  return { kind, value };
}

function refuseCoding(coding: string | undefined): void {
  if (coding !== undefined && coding !== 'identity') fail('unsupported_media_type', { values: { type: coding } });
}

function readJson(raw: Buffer): unknown {
  try {
    return parseJson(decode(raw));
  } catch (error) {
    if (error instanceof JsonError) fail('malformed', { values: { detail: `JSON parse error - ${error.message}` } });
    throw error;
  }
}

/** `shop_ids[]=11&permissions[products]=1`; a plain key that is repeated becomes a list, which fields refuse by name. */
function readForm(text: string): unknown {
  // qs leaves what does not decode as it is; a browser never sends that.
  if (/%(?![0-9a-fA-F]{2})/.test(text))
    fail('malformed', { values: { detail: 'Form parse error - a % is not followed by two hex digits.' } });
  try {
    decodeURIComponent(text);
  } catch {
    fail('malformed', { values: { detail: 'Form parse error - the text is not UTF-8.' } });
  }
  try {
    return qs.parse(text, {
      depth: 5,
      strictDepth: true,
      parameterLimit: 1000,
      throwOnLimitExceeded: true,
      arrayLimit: 10_000,
      plainObjects: true,
      ignoreQueryPrefix: false,
      duplicates: 'combine',
    });
  } catch (error) {
    fail('malformed', {
      values: { detail: `Form parse error - ${error instanceof Error ? error.message : 'unreadable'}` },
    });
  }
}

/** Fields and files of a multipart body (RFC 7578). A name given twice takes its last value, as Django does. */
function readMultipart(raw: Buffer, contentType: string): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    const malformed = (detail: string): void =>
      reject(new Failure('malformed', { values: { detail: `Multipart form parse error - ${detail}` } }));
    const value: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
    let parser: InstanceType<typeof Busboy>;
    try {
      parser = new Busboy({
        headers: { 'content-type': contentType },
        limits: { fields: 100, files: 5, parts: 105, fieldNameSize: 200, fieldSize: 64 * 1024, headerPairs: 50 },
      });
    } catch (error) {
      malformed(error instanceof Error ? error.message : 'unreadable');
      return;
    }
    parser.on('field', (name, text, nameTruncated, valueTruncated) => {
      if (nameTruncated || valueTruncated) malformed(`the field ${name.slice(0, 40)} is too long.`);
      value[name] = text;
    });
    parser.on('file', (name, stream) => {
      const chunks: Buffer[] = [];
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('error', () => malformed('a part ends before its boundary.'));
      stream.on('end', () => {
        value[name] = new UploadedFile(Buffer.concat(chunks));
      });
    });
    parser.on('partsLimit', () => malformed('too many parts.'));
    parser.on('fieldsLimit', () => malformed('too many fields.'));
    parser.on('filesLimit', () => malformed('too many files.'));
    parser.on('error', (error) => malformed(error instanceof Error ? error.message : 'unreadable'));
    parser.on('finish', () => resolve(value));
    parser.end(raw);
  });
}
