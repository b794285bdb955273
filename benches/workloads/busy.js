// A map that grows, JSON, compression, a hash.
const entries = new Map();
for (let i = 0; i < 200000; i++) {
    entries.set('k' + i, { a: i, b: [i, i + 1] });
    if (i % 1000 === 0) JSON.parse(JSON.stringify([...entries].slice(-500)));
}
const zlib = require('zlib');
for (let i = 0; i < 50; i++) zlib.gzipSync(Buffer.alloc(100000, i));
require('crypto').createHash('sha256').update('x').digest();
