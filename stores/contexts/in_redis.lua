-- All that is done to a context on Redis; each call is atomic.
--
-- KEYS[1]  the context: a hash, which expires as a whole
--            v  its version, an integer in decimal
--            d  the value's bytes; missing where the value was deleted
--
-- ARGV[1]  what to do:
--   "version"  answers v
--   "read"     answers {v, d}
--   "write"    writes, or deletes; answers {1, v}, or {0, v} where the expectation does not hold
--       ARGV[2]  the version that must be the present one; empty: any
--       ARGV[3]  milliseconds until it expires, counted from this write; empty: never
--       ARGV[4]  the value's bytes; missing: delete
--
-- A context that is not there has version "0". Versions are never put through Lua's numbers, which are doubles.

local key = KEYS[1]
local version = redis.call('HGET', key, 'v')
if not version then
  if redis.call('EXISTS', key) == 1 then
    return redis.error_reply('WRONGTYPE the key holds a hash that is not a context')
  end
  version = '0'
end

if ARGV[1] == 'version' then
  return version
end

if ARGV[1] == 'read' then
  return {version, redis.call('HGET', key, 'd')}
end

if ARGV[2] ~= '' and ARGV[2] ~= version then
  return {0, version}
end

if version == '0' then
  -- Nothing remains of a context that has expired, so nobody can know where its versions ended. Versions begin at this
  -- server's microseconds since 1970: above all that were given before, as long as a context is written to less often than
  -- a million times a second. Somebody who still holds a version of the one that expired can therefore not meet it again.
  local now = redis.call('TIME')
  redis.call('HSET', key, 'v', now[1] .. string.rep('0', 6 - #now[2]) .. now[2])
else
  redis.call('HINCRBY', key, 'v', 1)
end

if ARGV[4] then
  redis.call('HSET', key, 'd', ARGV[4])
else
  redis.call('HDEL', key, 'd')
end

if ARGV[3] ~= '' then
  redis.call('PEXPIRE', key, ARGV[3])
else
  redis.call('PERSIST', key)
end

return {1, redis.call('HGET', key, 'v')}
