package main

// A structure is a struct of the runtime whose layout is told.
type structure struct {
	// What it is called in the result.
	name string
	// Its name in package runtime.
	source string
	// Its fields as STRUCT.FIELD, in small letters where releases differ in that. A release may lack some.
	fields []string
}

// Names begin so when they are of a struct's size: sizeof.STRUCT.
const sizePrefix = "sizeof."

// Constants are told by their names with this before them.
const constantPrefix = "const."

// Which constants: those that begin so, with or without an underscore.
const kindsOfSpecial = "kindSpecial"

var structures = []structure{
	{"bucket", "bucket", []string{"next", "allnext", "typ", "hash", "size", "nstk"}},
	{"memRecord", "memRecord", []string{"active", "future"}},
	{"memRecordCycle", "memRecordCycle", []string{"allocs", "frees", "alloc_bytes", "free_bytes"}},
	{"special", "special", []string{"next", "offset", "kind"}},
	{"specialprofile", "specialprofile", []string{"b"}},
	{"mspan", "mspan", []string{"startAddr", "npages", "freeindex", "nelems", "allocBits", "gcmarkBits", "sweepgen",
		"spanclass", "state", "elemsize", "specials", "largeType"}},
	{"mheap", "mheap", []string{"allspans", "sweepgen", "arenas", "speciallock", "specialprofilealloc"}},
	{"heapArena", "heapArena", []string{"spans"}},
	{"g", "g", []string{"stack", "m", "sched", "atomicstatus", "goid", "waitsince", "waitreason", "syscallsp",
		"syscallpc", "syscallbp", "gopc", "startpc", "parentGoid", "waiting", "labels", "trackingSeq"}},
	{"gobuf", "gobuf", []string{"sp", "pc", "bp"}},
	{"stack", "stack", []string{"lo", "hi"}},
	{"m", "m", []string{"g0", "procid", "curg", "p", "alllink", "profStack"}},
	{"p", "p", []string{"id", "mcache", "pcache", "wbBuf", "gcw"}},
	{"wbBuf", "wbBuf", nil},
	{"gcWork", "gcWork", nil},
	{"pageCache", "pageCache", nil},
	{"mcache", "mcache", []string{"nextSample", "memProfRate"}},
	{"moduledata", "moduledata", []string{"pcHeader", "funcnametab", "cutab", "filetab", "pctab", "pclntable", "ftab",
		"minpc", "maxpc", "text", "etext", "noptrdata", "enoptrdata", "data", "edata", "bss", "ebss", "noptrbss",
		"enoptrbss", "gcdata", "gcbss", "types", "etypes", "rodata", "gofunc", "gcdatamask", "gcbssmask", "next"}},
	{"sudog", "sudog", []string{"g", "elem", "waitlink", "c"}},
	{"hchan", "hchan", []string{"recvq", "sendq"}},
	{"type", "_type", []string{"tflag", "str"}},
}
