define i32 @lithe_kernel0(ptr noalias %p0, ptr noalias %p1, ptr noalias %p2, ptr noalias %p3, ptr noalias %p4, i32 %thread, i32 %threads, ptr %sync) nounwind {
entry:
  %local5 = alloca [64 x i32], align 64
  br label %body0
body0:
  %v1 = load <16 x i32>, ptr %p0, align 4
  store <16 x i32> %v1, ptr %local5, align 4
  %v2 = getelementptr i8, ptr %local5, i64 64
  store <16 x i32> %v1, ptr %v2, align 4
  %v3 = getelementptr i8, ptr %local5, i64 128
  store <16 x i32> %v1, ptr %v3, align 4
  %v4 = getelementptr i8, ptr %local5, i64 192
  store <16 x i32> %v1, ptr %v4, align 4
  %v5 = load <16 x i32>, ptr %local5, align 4
  %v6 = load i32, ptr %p1, align 1
  %v7 = insertelement <16 x i32> poison, i32 %v6, i64 0
  %v8 = shufflevector <16 x i32> %v7, <16 x i32> poison, <16 x i32> zeroinitializer
  %v9 = xor <16 x i32> %v8, splat (i32 -2139062144)
  %v10 = load <16 x i32>, ptr %p2, align 4
  %v11 = bitcast <16 x i32> %v9 to <64 x i8>
  %v12 = bitcast <16 x i32> %v10 to <64 x i8>
  %v13 = call <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32> %v5, <64 x i8> %v11, <64 x i8> %v12)
  store <16 x i32> %v13, ptr %local5, align 4
  %v14 = load <16 x i32>, ptr %v2, align 4
  %v15 = getelementptr i8, ptr %p1, i64 8
  %v16 = load i32, ptr %v15, align 1
  %v17 = insertelement <16 x i32> poison, i32 %v16, i64 0
  %v18 = shufflevector <16 x i32> %v17, <16 x i32> poison, <16 x i32> zeroinitializer
  %v19 = xor <16 x i32> %v18, splat (i32 -2139062144)
  %v20 = bitcast <16 x i32> %v19 to <64 x i8>
  %v21 = bitcast <16 x i32> %v10 to <64 x i8>
  %v22 = call <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32> %v14, <64 x i8> %v20, <64 x i8> %v21)
  store <16 x i32> %v22, ptr %v2, align 4
  %v23 = load <16 x i32>, ptr %v3, align 4
  %v24 = getelementptr i8, ptr %p1, i64 16
  %v25 = load i32, ptr %v24, align 1
  %v26 = insertelement <16 x i32> poison, i32 %v25, i64 0
  %v27 = shufflevector <16 x i32> %v26, <16 x i32> poison, <16 x i32> zeroinitializer
  %v28 = xor <16 x i32> %v27, splat (i32 -2139062144)
  %v29 = bitcast <16 x i32> %v28 to <64 x i8>
  %v30 = bitcast <16 x i32> %v10 to <64 x i8>
  %v31 = call <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32> %v23, <64 x i8> %v29, <64 x i8> %v30)
  store <16 x i32> %v31, ptr %v3, align 4
  %v32 = load <16 x i32>, ptr %v4, align 4
  %v33 = getelementptr i8, ptr %p1, i64 24
  %v34 = load i32, ptr %v33, align 1
  %v35 = insertelement <16 x i32> poison, i32 %v34, i64 0
  %v36 = shufflevector <16 x i32> %v35, <16 x i32> poison, <16 x i32> zeroinitializer
  %v37 = xor <16 x i32> %v36, splat (i32 -2139062144)
  %v38 = bitcast <16 x i32> %v37 to <64 x i8>
  %v39 = bitcast <16 x i32> %v10 to <64 x i8>
  %v40 = call <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32> %v32, <64 x i8> %v38, <64 x i8> %v39)
  store <16 x i32> %v40, ptr %v4, align 4
  %v41 = load <16 x i32>, ptr %local5, align 4
  %v42 = getelementptr i8, ptr %p1, i64 4
  %v43 = load i32, ptr %v42, align 1
  %v44 = insertelement <16 x i32> poison, i32 %v43, i64 0
  %v45 = shufflevector <16 x i32> %v44, <16 x i32> poison, <16 x i32> zeroinitializer
  %v46 = xor <16 x i32> %v45, splat (i32 -2139062144)
  %v47 = getelementptr i8, ptr %p2, i64 64
  %v48 = load <16 x i32>, ptr %v47, align 4
  %v49 = bitcast <16 x i32> %v46 to <64 x i8>
  %v50 = bitcast <16 x i32> %v48 to <64 x i8>
  %v51 = call <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32> %v41, <64 x i8> %v49, <64 x i8> %v50)
  store <16 x i32> %v51, ptr %local5, align 4
  %v52 = load <16 x i32>, ptr %v2, align 4
  %v53 = getelementptr i8, ptr %p1, i64 12
  %v54 = load i32, ptr %v53, align 1
  %v55 = insertelement <16 x i32> poison, i32 %v54, i64 0
  %v56 = shufflevector <16 x i32> %v55, <16 x i32> poison, <16 x i32> zeroinitializer
  %v57 = xor <16 x i32> %v56, splat (i32 -2139062144)
  %v58 = bitcast <16 x i32> %v57 to <64 x i8>
  %v59 = bitcast <16 x i32> %v48 to <64 x i8>
  %v60 = call <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32> %v52, <64 x i8> %v58, <64 x i8> %v59)
  store <16 x i32> %v60, ptr %v2, align 4
  %v61 = load <16 x i32>, ptr %v3, align 4
  %v62 = getelementptr i8, ptr %p1, i64 20
  %v63 = load i32, ptr %v62, align 1
  %v64 = insertelement <16 x i32> poison, i32 %v63, i64 0
  %v65 = shufflevector <16 x i32> %v64, <16 x i32> poison, <16 x i32> zeroinitializer
  %v66 = xor <16 x i32> %v65, splat (i32 -2139062144)
  %v67 = bitcast <16 x i32> %v66 to <64 x i8>
  %v68 = bitcast <16 x i32> %v48 to <64 x i8>
  %v69 = call <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32> %v61, <64 x i8> %v67, <64 x i8> %v68)
  store <16 x i32> %v69, ptr %v3, align 4
  %v70 = load <16 x i32>, ptr %v4, align 4
  %v71 = getelementptr i8, ptr %p1, i64 28
  %v72 = load i32, ptr %v71, align 1
  %v73 = insertelement <16 x i32> poison, i32 %v72, i64 0
  %v74 = shufflevector <16 x i32> %v73, <16 x i32> poison, <16 x i32> zeroinitializer
  %v75 = xor <16 x i32> %v74, splat (i32 -2139062144)
  %v76 = bitcast <16 x i32> %v75 to <64 x i8>
  %v77 = bitcast <16 x i32> %v48 to <64 x i8>
  %v78 = call <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32> %v70, <64 x i8> %v76, <64 x i8> %v77)
  store <16 x i32> %v78, ptr %v4, align 4
  %v79 = load <16 x i32>, ptr %local5, align 4
  %v80 = sitofp <16 x i32> %v79 to <16 x float>
  %v81 = load <16 x float>, ptr %p3, align 4
  %v82 = fmul <16 x float> %v80, %v81
  %v83 = fcmp olt <16 x float> splat (float 0x0000000000000000), %v82
  %v84 = select <16 x i1> %v83, <16 x float> %v82, <16 x float> splat (float 0x0000000000000000)
  %v85 = fcmp olt <16 x float> %v84, splat (float 0x4038000000000000)
  %v86 = select <16 x i1> %v85, <16 x float> %v84, <16 x float> splat (float 0x4038000000000000)
  %v87 = call <16 x i32> @llvm.lrint.v16i32.v16f32(<16 x float> %v86)
  %v88 = load <16 x i32>, ptr %v2, align 4
  %v89 = sitofp <16 x i32> %v88 to <16 x float>
  %v90 = fmul <16 x float> %v89, %v81
  %v91 = fcmp olt <16 x float> splat (float 0x0000000000000000), %v90
  %v92 = select <16 x i1> %v91, <16 x float> %v90, <16 x float> splat (float 0x0000000000000000)
  %v93 = fcmp olt <16 x float> %v92, splat (float 0x4038000000000000)
  %v94 = select <16 x i1> %v93, <16 x float> %v92, <16 x float> splat (float 0x4038000000000000)
  %v95 = call <16 x i32> @llvm.lrint.v16i32.v16f32(<16 x float> %v94)
  %v96 = getelementptr i8, ptr %p4, i64 16
  %v97 = load <16 x i32>, ptr %v3, align 4
  %v98 = sitofp <16 x i32> %v97 to <16 x float>
  %v99 = fmul <16 x float> %v98, %v81
  %v100 = fcmp olt <16 x float> splat (float 0x0000000000000000), %v99
  %v101 = select <16 x i1> %v100, <16 x float> %v99, <16 x float> splat (float 0x0000000000000000)
  %v102 = fcmp olt <16 x float> %v101, splat (float 0x4038000000000000)
  %v103 = select <16 x i1> %v102, <16 x float> %v101, <16 x float> splat (float 0x4038000000000000)
  %v104 = call <16 x i32> @llvm.lrint.v16i32.v16f32(<16 x float> %v103)
  %v105 = getelementptr i8, ptr %p4, i64 32
  %v106 = load <16 x i32>, ptr %v4, align 4
  %v107 = sitofp <16 x i32> %v106 to <16 x float>
  %v108 = fmul <16 x float> %v107, %v81
  %v109 = fcmp olt <16 x float> splat (float 0x0000000000000000), %v108
  %v110 = select <16 x i1> %v109, <16 x float> %v108, <16 x float> splat (float 0x0000000000000000)
  %v111 = fcmp olt <16 x float> %v110, splat (float 0x4038000000000000)
  %v112 = select <16 x i1> %v111, <16 x float> %v110, <16 x float> splat (float 0x4038000000000000)
  %v113 = call <16 x i32> @llvm.lrint.v16i32.v16f32(<16 x float> %v112)
  %v114 = getelementptr i8, ptr %p4, i64 48
  %v115 = call <32 x i16> @llvm.x86.avx512.packssdw.512(<16 x i32> %v87, <16 x i32> %v95)
  %v116 = call <32 x i16> @llvm.sadd.sat.v32i16(<32 x i16> %v115, <32 x i16> splat (i16 5))
  %v117 = call <32 x i16> @llvm.x86.avx512.packssdw.512(<16 x i32> %v104, <16 x i32> %v113)
  %v118 = call <32 x i16> @llvm.sadd.sat.v32i16(<32 x i16> %v117, <32 x i16> splat (i16 5))
  %v119 = call <64 x i8> @llvm.x86.avx512.packsswb.512(<32 x i16> %v116, <32 x i16> %v118)
  %v120 = bitcast <64 x i8> %v119 to <16 x i32>
  %v121 = shufflevector <16 x i32> %v120, <16 x i32> poison, <16 x i32> <i32 0, i32 4, i32 8, i32 12, i32 1, i32 5, i32 9, i32 13, i32 2, i32 6, i32 10, i32 14, i32 3, i32 7, i32 11, i32 15>
  %v122 = bitcast <16 x i32> %v121 to <64 x i8>
  store <64 x i8> %v122, ptr %p4, align 1
  ret i32 0
}
declare <16 x i32> @llvm.lrint.v16i32.v16f32(<16 x float>)
declare <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32>, <64 x i8>, <64 x i8>)
declare <32 x i16> @llvm.sadd.sat.v32i16(<32 x i16>, <32 x i16>)
declare <32 x i16> @llvm.x86.avx512.packssdw.512(<16 x i32>, <16 x i32>)
declare <64 x i8> @llvm.x86.avx512.packsswb.512(<32 x i16>, <32 x i16>)

define i32 @lithe_entry(ptr %arena, ptr %constants, i32 %thread, i32 %threads, ptr %sync) nounwind {
entry:
  %first = icmp eq i32 %thread, 0
  %number = zext i32 %thread to i64
  %skipped = mul i64 %number, 0
  %own = getelementptr i8, ptr %arena, i64 %skipped
  %mode = call i32 @lithe_flush()
  br label %phase0
phase0:
  br i1 %first, label %alone0, label %leave
alone0:
  %a0_0 = getelementptr i8, ptr %constants, i64 0
  %a0_1 = getelementptr i8, ptr %arena, i64 64
  %a0_2 = getelementptr i8, ptr %constants, i64 64
  %a0_3 = getelementptr i8, ptr %constants, i64 192
  %a0_4 = getelementptr i8, ptr %arena, i64 0
  %r0 = call i32 @lithe_kernel0(ptr %a0_0, ptr %a0_1, ptr %a0_2, ptr %a0_3, ptr %a0_4, i32 %thread, i32 %threads, ptr %sync)
  br label %leave
leave:
  call void @lithe_barrier(i32 %threads, ptr %sync)
  call void @lithe_unflush(i32 %mode)
  ret i32 0
}
declare i32 @lithe_kernel0(ptr, ptr, ptr, ptr, ptr, i32, i32, ptr)
declare void @lithe_barrier(i32, ptr)
declare void @lithe_fail(i32, i32, ptr)
declare i32 @lithe_failure(ptr)
declare i32 @lithe_flush()
declare void @lithe_unflush(i32)


define internal void @lithe_await(ptr %word, i32 %old) nounwind {
entry:
  %sleepers = getelementptr i8, ptr %word, i64 4
  %value = zext i32 %old to i64
  br label %spin
spin:
  %n = phi i32 [0, %entry], [%m, %again]
  %seen = load atomic i32, ptr %word acquire, align 4
  %changed = icmp ne i32 %seen, %old
  br i1 %changed, label %done, label %again
again:
  call void @llvm.x86.sse2.pause()
  %m = add i32 %n, 1
  %more = icmp ult i32 %m, 2000
  br i1 %more, label %spin, label %sleep
sleep:
  %slept = atomicrmw add ptr %sleepers, i32 1 seq_cst
  call i64 (i64, ...) @syscall(i64 202, ptr %word, i64 128, i64 %value, ptr null)
  %woke = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  %found = load atomic i32, ptr %word acquire, align 4
  %ready = icmp ne i32 %found, %old
  br i1 %ready, label %done, label %sleep
done:
  ret void
}
define internal void @lithe_announce(ptr %word, i32 %next) nounwind {
entry:
  %sleepers = getelementptr i8, ptr %word, i64 4
  %old = atomicrmw xchg ptr %word, i32 %next seq_cst
  %count = load atomic i32, ptr %sleepers seq_cst, align 4
  %some = icmp ne i32 %count, 0
  br i1 %some, label %wake, label %done
wake:
  call i64 (i64, ...) @syscall(i64 202, ptr %word, i64 129, i64 2147483647)
  br label %done
done:
  ret void
}
define void @lithe_barrier(i32 %threads, ptr %sync) nounwind {
entry:
  %alone = icmp eq i32 %threads, 1
  br i1 %alone, label %done, label %meet
meet:
  %arrived = getelementptr i8, ptr %sync, i64 0
  %word = getelementptr i8, ptr %sync, i64 64
  %phase = load atomic i32, ptr %word monotonic, align 4
  %before = atomicrmw add ptr %arrived, i32 1 acq_rel
  %now = add i32 %before, 1
  %last = icmp eq i32 %now, %threads
  br i1 %last, label %open, label %wait
open:
  store atomic i32 0, ptr %arrived monotonic, align 4
  %next = add i32 %phase, 1
  call void @lithe_announce(ptr %word, i32 %next)
  br label %done
wait:
  call void @lithe_await(ptr %word, i32 %phase)
  br label %done
done:
  ret void
}
define void @lithe_fail(i32 %thread, i32 %code, ptr %sync) nounwind {
entry:
  %place = getelementptr i8, ptr %sync, i64 192
  %high = zext i32 %thread to i64
  %low = zext i32 %code to i64
  %shifted = shl i64 %high, 32
  %key = or i64 %shifted, %low
  %before = atomicrmw umin ptr %place, i64 %key acq_rel
  ret void
}
define i32 @lithe_failure(ptr %sync) nounwind {
entry:
  %place = getelementptr i8, ptr %sync, i64 192
  %key = load atomic i64, ptr %place monotonic, align 8
  %code = trunc i64 %key to i32
  %none = icmp eq i64 %key, -1
  %result = select i1 %none, i32 0, i32 %code
  ret i32 %result
}
define i32 @lithe_run(ptr %entry, ptr %arena, ptr %constants, i32 %threads, ptr %sync) nounwind {
start:
  %failure = getelementptr i8, ptr %sync, i64 192
  store i64 -1, ptr %failure, align 8
  %alone = icmp eq i32 %threads, 1
  br i1 %alone, label %run, label %call
call:
  %job = getelementptr i8, ptr %sync, i64 320
  %job_arena = getelementptr i8, ptr %sync, i64 328
  %job_constants = getelementptr i8, ptr %sync, i64 336
  store ptr %entry, ptr %job, align 8
  store ptr %arena, ptr %job_arena, align 8
  store ptr %constants, ptr %job_constants, align 8
  %word = getelementptr i8, ptr %sync, i64 128
  %before = load atomic i32, ptr %word monotonic, align 4
  %next = add i32 %before, 1
  call void @lithe_announce(ptr %word, i32 %next)
  br label %run
run:
  %code = call i32 %entry(ptr %arena, ptr %constants, i32 0, i32 %threads, ptr %sync)
  ret i32 %code
}
define void @lithe_worker(i32 %thread, i32 %threads, ptr %sync) nounwind {
entry:
  %word = getelementptr i8, ptr %sync, i64 128
  %stop = getelementptr i8, ptr %sync, i64 256
  %job = getelementptr i8, ptr %sync, i64 320
  %job_arena = getelementptr i8, ptr %sync, i64 328
  %job_constants = getelementptr i8, ptr %sync, i64 336
  br label %wait
wait:
  %old = phi i32 [0, %entry], [%now, %work]
  call void @lithe_await(ptr %word, i32 %old)
  %now = load atomic i32, ptr %word acquire, align 4
  %told = load atomic i32, ptr %stop acquire, align 4
  %ended = icmp ne i32 %told, 0
  br i1 %ended, label %done, label %work
work:
  %run = load ptr, ptr %job, align 8
  %arena = load ptr, ptr %job_arena, align 8
  %constants = load ptr, ptr %job_constants, align 8
  %code = call i32 %run(ptr %arena, ptr %constants, i32 %thread, i32 %threads, ptr %sync)
  br label %wait
done:
  ret void
}
define void @lithe_stop(ptr %sync) nounwind {
entry:
  %stop = getelementptr i8, ptr %sync, i64 256
  store atomic i32 1, ptr %stop release, align 4
  %word = getelementptr i8, ptr %sync, i64 128
  %before = load atomic i32, ptr %word monotonic, align 4
  %next = add i32 %before, 1
  call void @lithe_announce(ptr %word, i32 %next)
  ret void
}
declare void @llvm.x86.sse2.pause()
declare i64 @syscall(i64, ...)

declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
define i32 @lithe_flush() nounwind {
  %place = alloca i32, align 4
  call void @llvm.x86.sse.stmxcsr(ptr %place)
  %mode = load i32, ptr %place, align 4
  %flushing = or i32 %mode, 32768
  store i32 %flushing, ptr %place, align 4
  call void @llvm.x86.sse.ldmxcsr(ptr %place)
  ret i32 %mode
}
define void @lithe_unflush(i32 %mode) nounwind {
  %place = alloca i32, align 4
  store i32 %mode, ptr %place, align 4
  call void @llvm.x86.sse.ldmxcsr(ptr %place)
  ret void
}

