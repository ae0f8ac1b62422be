// Verifies messages with mailauth, an implementation in JavaScript that shares nothing with ours.
// Arguments: the folder with mailauth's node_modules, and a file with one record a line, name and text. Standard input:
// messages, each with its length in 4 octets in front. Standard output: one line a message, "algorithm=result" for each
// signature, topmost first.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const require = createRequire(process.argv[2] + '/');
const { dkimVerify } = require('mailauth/lib/dkim/verify');

const records = new Map();
for (const line of readFileSync(process.argv[3], 'utf8').split('\n')) {
    const blank = line.indexOf(' ');
    if (blank > 0) records.set(line.slice(0, blank), line.slice(blank + 1));
}

async function resolver(name, type) {
    const text = records.get(name);
    if (type === 'TXT' && text !== undefined) return [text.match(/.{1,255}/g)];
    const error = new Error('no such name');
    error.code = 'ENOTFOUND';
    throw error;
}

async function verify(message) {
    const { results } = await dkimVerify(message, { resolver });
    return results.map((one) => `${one.algo}=${one.status.result === 'pass' ? 'pass' : 'fail'}`).join(' ');
}

let left = Buffer.alloc(0);
for await (const part of process.stdin) {
    left = Buffer.concat([left, part]);
    while (left.length >= 4 && left.length >= 4 + left.readUInt32BE(0)) {
        const end = 4 + left.readUInt32BE(0);
        const message = left.subarray(4, end);
        left = left.subarray(end);
        process.stdout.write((await verify(message)) + '\n');
    }
}
