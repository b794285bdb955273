package main

// Fields of the runtime's structs, by struct. A release may lack some.
var fields = map[string][]string{
	"bucket":         {"next", "allnext", "typ", "hash", "size", "nstk"},
	"special":        {"next", "offset", "kind"},
	"specialprofile": {"b"},
	"memRecord":      {"active", "future"},
	"memRecordCycle": {"allocs", "frees", "alloc_bytes", "free_bytes"},
	"mspan": {"startAddr", "npages", "freeindex", "nelems", "allocBits", "gcmarkBits", "sweepgen", "spanclass", "state",
		"elemsize", "specials", "largeType"},
	"mheap": {"allspans", "sweepgen", "arenas", "speciallock", "specialprofilealloc"},
	"g": {"stack", "m", "sched", "atomicstatus", "goid", "waitsince", "waitreason", "syscallsp", "syscallpc",
		"syscallbp", "gopc", "startpc", "parentGoid", "waiting", "labels"},
	"gobuf":  {"sp", "pc", "bp"},
	"stack":  {"lo", "hi"},
	"m":      {"procid", "curg", "p", "alllink", "profStack"},
	"p":      {"mcache"},
	"mcache": {"nextSample", "memProfRate"},
	"moduledata": {"pcHeader", "funcnametab", "cutab", "filetab", "pctab", "pclntable", "ftab", "minpc", "maxpc", "text",
		"etext", "data", "edata", "bss", "ebss", "noptrdata", "enoptrdata", "noptrbss", "enoptrbss", "gcdata", "gcbss",
		"types", "etypes", "rodata", "gofunc", "gcdatamask", "gcbssmask", "next"},
	"sudog": {"g", "elem", "waitlink", "c"},
	"hchan": {"recvq", "sendq"},
}

// Structs whose size is told, as STRUCT.size. None of them has a field of that name.
var sized = []string{"special", "specialprofile", "memRecord", "memRecordCycle", "mspan", "g", "moduledata"}

// Constants, by the names that they have in one release or another, without the leading underscore.
const constantPrefix = "KindSpecial"

// Of a bucket's size nothing is told, since it has a field of that name: its stack lies behind it.
const stackBehindBucket = "bucket.stk"

// The strings of the reasons why a goroutine waits, in the order of their numbers.
const waitReasons = "waitReasons"
