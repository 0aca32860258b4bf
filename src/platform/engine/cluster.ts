import { createHash, randomBytes } from 'node:crypto';
import {
  access,
  chmod,
  chown,
  constants,
  mkdir,
  open,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, isAbsolute, join, relative, resolve } from 'node:path';
import { EngineError } from './error.ts';
import type { EnginePackage, EngineUser } from './files.ts';
import { canReach, exists, giveTree, makeFolder, privateFolder, SYSTEM_FOLDER, syncFolder } from './files.ts';
import { endLeftovers } from './lock.ts';
import { explain, run } from './programs.ts';

/** Where a cluster lies and who runs it. */
export interface Cluster {
  /** The data directory of PostgreSQL. */
  path: string;
  /** The file its messages go to, beside it. */
  log: string;
  /** As root: its owner. */
  user: EngineUser | undefined;
}

/** What `engine.json` keeps: `cluster` is relative to the data folder when it lies inside, so the folder can be moved. */
interface Place {
  cluster: string;
}

/**
 * Unix socket paths end with a zero byte in 108 bytes on Linux, 104 elsewhere (sun_path, unix(7)). The path is checked
 * with the name PostgreSQL appends for port 5432.
 */
const SOCKET_PATH_LIMIT = process.platform === 'linux' ? 107 : 103;

/** Says where the cluster of a data folder lies; its owner is the user who starts this server. */
const NOTE = 'engine.json';

/**
 * Makes the data folder when it is missing and answers its real path. Refuses one that is another user's, before it
 * leaves a file there that the other could not open.
 */
export async function openDataFolder(wanted: string, user: EngineUser | undefined): Promise<string> {
  if (!isAbsolute(wanted)) throw new EngineError(`The data folder must be an absolute path, not ${wanted}.`);
  const folder = resolve(wanted);
  try {
    const made = await mkdir(folder, { recursive: true, mode: 0o700 });
    // As root nobody but the engine's user may pass through (0710), and even that user cannot list what is there.
    for (let step = folder; made !== undefined && user; step = dirname(step)) {
      await chown(step, 0, user.gid);
      await chmod(step, 0o710);
      if (step === resolve(made)) break;
    }
    await access(folder, constants.R_OK | constants.W_OK | constants.X_OK);
    const note = await stat(join(folder, NOTE)).catch(() => undefined);
    if (note && note.uid !== process.getuid!()) throw foreign(folder, note.uid);
    return await realpath(folder);
  } catch (error) {
    if (error instanceof EngineError) throw error;
    const found = await stat(folder).catch(() => undefined);
    const we = process.getuid?.() ?? -1;
    if (found && !found.isDirectory()) throw new EngineError(`The data folder ${folder} is not a folder, but a file.`);
    if (found && found.uid !== we) throw foreign(folder, found.uid);
    const reason = (error as Error).message;
    throw new EngineError(
      `Assent cannot use its data folder ${folder}: ${reason}. Make it writable, or choose another.`,
    );
  }
}

function foreign(folder: string, owner: number): EngineError {
  const [they, we] = [owner, process.getuid?.() ?? -1].map((uid) => (uid === 0 ? 'root' : `user ${uid}`));
  return new EngineError(
    `The data folder ${folder} belongs to ${they} and this is ${we}. Start Assent as ${they} as before, ` +
      `or hand the folder over (chown -R), or choose another.`,
  );
}

/**
 * The cluster of this data folder, made when there is none. The folder's lock must be held.
 *
 * It lies in `<folder>/postgres`. As root it must lie where the engine's user can come: when some folder on the way is
 * closed to others (a checkout in /root), it lies in /var/lib/assent/clusters/<random>/ and `engine.json` tells which.
 */
export async function openCluster(
  folder: string,
  engine: EnginePackage,
  programs: string,
  user: EngineUser | undefined,
  options: { log: (line: string) => void; durable: boolean },
): Promise<Cluster> {
  const note = join(folder, NOTE);
  const place = await readPlace(note);

  const inside = join(folder, 'postgres');
  const path = place ? resolve(folder, place.cluster) : await newPlace(folder, inside, user);
  const cluster: Cluster = { path, log: join(dirname(path), 'postgres.log'), user };
  await removeParts(path, options.log);
  if (await exists(path)) {
    await checkVersion(path, engine);
    cluster.user = user && (await ownerOf(path, user));
    if (user && !(await canReach(cluster.user!, dirname(path)))) {
      throw new EngineError(
        `PostgreSQL runs as user ${cluster.user!.name}, who can no longer enter ${dirname(path)}. ` +
          `Let others pass through the folders on the way (chmod o+x), as it was when the data was made.`,
      );
    }
  } else {
    if (place) {
      throw new EngineError(
        `${note} says that the database lies in ${path}, but nothing is there. Bring it back from a backup; ` +
          `or, to start with an empty database, delete engine.json.`,
      );
    }
    await makeCluster(cluster, programs, options);
  }
  if (!place) {
    const within = !relative(folder, path).startsWith('..');
    await writePlace(note, { cluster: within ? relative(folder, path) : path });
  }
  return cluster;
}

/** Where the cluster of a data folder lies, if it has one. */
export async function clusterPath(folder: string): Promise<string | undefined> {
  const place = await readPlace(join(folder, NOTE));
  return place === undefined ? undefined : resolve(folder, place.cluster);
}

async function readPlace(note: string): Promise<Place | undefined> {
  const text = await readFile(note, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  try {
    const place = JSON.parse(text) as Place;
    if (typeof place.cluster === 'string') return place;
  } catch {
    // the sentence below says it
  }
  throw new EngineError(`${note} does not say where the database lies. Bring it back from a backup.`);
}

async function writePlace(note: string, place: Place): Promise<void> {
  const part = `${note}.part`;
  const file = await open(part, 'w', 0o600);
  await file
    .writeFile(`${JSON.stringify(place, null, 2)}\n`)
    .then(() => file.sync())
    .finally(() => file.close());
  await rename(part, note);
  await syncFolder(dirname(note));
}

async function newPlace(folder: string, inside: string, user: EngineUser | undefined): Promise<string> {
  if (!user || (await exists(inside)) || (await canReach(user, folder))) return inside;
  const clusters = join(SYSTEM_FOLDER, 'clusters');
  const home = join(clusters, randomBytes(8).toString('hex'));
  try {
    await makeFolder(clusters, 0o711);
    await makeFolder(home, 0o710);
    await chown(home, 0, user.gid);
  } catch (error) {
    throw new EngineError(
      `PostgreSQL does not run as root but as user ${user.name}, who can enter neither the data folder ${folder} ` +
        `nor ${clusters} (${(error as Error).message}). Put the data folder where others may pass through, ` +
        `or start Assent as a normal user.`,
    );
  }
  return join(home, 'postgres');
}

/** A cluster keeps the user it was made for, also when a better one is added later. Root's (a restored copy) is given. */
async function ownerOf(path: string, user: EngineUser): Promise<EngineUser> {
  const { uid, gid } = await stat(path);
  if (uid === user.uid) return user;
  if (uid !== 0) return { name: `${uid}`, uid, gid };
  await giveTree(path, user);
  return user;
}

async function checkVersion(path: string, engine: EnginePackage): Promise<void> {
  const found = (await readFile(join(path, 'PG_VERSION'), 'utf8').catch(() => '')).trim();
  if (found === engine.major) return;
  if (found === '') {
    if ((await readdir(path)).length === 0) return;
    throw new EngineError(
      `${path} is not a database cluster (no PG_VERSION). Bring it back from a backup, or move it away.`,
    );
  }
  throw new EngineError(
    `The data in ${path} was made by PostgreSQL ${found}; this Assent brings PostgreSQL ${engine.major}. ` +
      `Export with the Assent that made it and import with this one, or set DATABASE_URL to a PostgreSQL ${found} server.`,
  );
}

/** What a killed first start left half made. */
async function removeParts(path: string, log: (line: string) => void): Promise<void> {
  for (const entry of await readdir(dirname(path))) {
    const part = join(dirname(path), entry);
    if (!part.startsWith(`${path}.part-`)) continue;
    log('An earlier first start was interrupted; starting it afresh.');
    await endLeftovers(part, log);
    await rm(part, { recursive: true, force: true, maxRetries: 5 });
  }
}

/**
 * initdb in a folder of another name, then a rename: a cluster is there whole or not at all. The builtin C.UTF-8 locale
 * sorts by code point on every machine and needs nothing of the system, so that no library's update can break an index
 * (PostgreSQL 17, "Locale Providers"); the package's old ICU and the image's libc have no say.
 */
async function makeCluster(
  cluster: Cluster,
  programs: string,
  options: { log: (line: string) => void; durable: boolean },
) {
  options.log(`Making the database in ${cluster.path} (once, about a second).`);
  const part = `${cluster.path}.part-${randomBytes(6).toString('hex')}`;
  await privateFolder(part, cluster.user);
  try {
    const said = await run(join(programs, 'bin/initdb'), initdbArguments(part, options.durable), cluster.user);
    if (said.code !== 0) throw new EngineError(explain('PostgreSQL could not make its database', said.text));
    await rename(part, cluster.path);
    await syncFolder(dirname(cluster.path));
  } catch (error) {
    await rm(part, { recursive: true, force: true, maxRetries: 5 });
    throw error;
  }
}

/**
 * Who may connect is decided by the socket's folder (0700: the engine's user and root), so the cluster itself trusts.
 * A password would lie in a file readable to the same two, and SCRAM costs each connection 4096 rounds of SHA-256;
 * `peer` would say the same once more but fails for a uid without an entry in /etc/passwd, common in containers.
 */
function initdbArguments(part: string, durable: boolean): string[] {
  return [
    ...['--pgdata', part, '--username', 'assent', '--auth-local', 'trust', '--auth-host', 'reject'],
    ...['--encoding', 'UTF8', '--locale', 'C', '--locale-provider', 'builtin', '--builtin-locale', 'C.UTF-8'],
    ...['--data-checksums', '--no-instructions', ...(durable ? [] : ['--no-sync'])],
  ];
}

/**
 * The folder of the socket, 0700: beside the cluster. When that path is too long for a socket, a folder in the system's
 * temporary one, named by a hash of the cluster's path so that it is found again.
 */
export async function socketFolder(cluster: Cluster): Promise<string> {
  const beside = join(dirname(cluster.path), 'run');
  const name = `assent-${createHash('sha256').update(cluster.path).digest('hex').slice(0, 16)}`;
  const fits = (path: string) => Buffer.byteLength(join(path, '.s.PGSQL.5432')) <= SOCKET_PATH_LIMIT;
  const open = async (path: string) => fits(path) && (!cluster.user || (await canReach(cluster.user, dirname(path))));
  for (const path of [beside, join(tmpdir(), name), join('/tmp', name)]) {
    if (!(await open(path))) continue;
    await privateFolder(path, cluster.user);
    return path;
  }
  throw new EngineError(
    `No folder for the database's socket: ${beside} is too long and ${tmpdir()} cannot be used. Set TMPDIR.`,
  );
}
