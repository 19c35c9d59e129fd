import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compare } from '../latency.js';

test('bcrypt costs where a key is first used, and nowhere else', async () => {
    const { bcrypt, sha256 } = await compare();
    assert.ok(bcrypt.first.median > 4 * sha256.first.median);
    assert.ok(bcrypt.again.median < bcrypt.first.median / 2);
    assert.ok(bcrypt.wrong.median < bcrypt.first.median / 2);
});
