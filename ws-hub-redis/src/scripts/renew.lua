-- The calling node is alive.
-- ARGV: how long it is believed to be, and how long after its end a node is reaped, in ms; 1 if it should have a lease; what
-- this server is known by as the master, if another one may become that, and what the one is before it, if that is known.
-- Answers: the number of the probe that is pushed, 1 if the lease had ended, 1 if there is none that should be, and nodes to
-- reap. Without a lease that should be nothing is done: the name of the node is used up.
allow_oom()
local lease, reaped = tonumber(ARGV[ARG]), tonumber(ARGV[ARG + 1])
local over = call('ZSCORE', leases, here)
if not over and ARGV[ARG + 2] == '1' then return { 0, 0, 1, {} } end
call('ZADD', leases, now + lease, here)
-- since when the server has its data: logins from before are not of these logs
call('HSETNX', pushes, 'since', micros)
-- since when this one is the master: it may not have the last things that the one before it had
local master, before = ARGV[ARG + 3], ARGV[ARG + 4]
local last = master ~= '' and call('HGET', pushes, 'master')
if last ~= master and master ~= '' then
  call('HSET', pushes, 'master', master)
  -- or else the data were moved from another server, and are all here
  if before == '' or last == before then call('HSET', pushes, 'failover', micros) end
end
local number = call('HINCRBY', pushes, here, 1)
call(PUBLISH, channel .. here, pack('>BBI8', 1, 8, number))
local late = over and tonumber(over) <= now and 1 or 0
local dead = call('ZRANGEBYSCORE', leases, '-inf', now - reaped, 'LIMIT', 0, 8)
return { number, late, 0, dead }
