define i32 @lithe_kernel0(ptr noalias %p0, ptr noalias %p1, ptr noalias %p2, ptr noalias %p3, ptr noalias %p4, ptr noalias %p5) nounwind {
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
  br label %loop5
loop5:
  %i6 = phi i64 [0, %body0], [%v45, %loop5]
  %s8o = mul nsw i64 %i6, 4
  %s8 = getelementptr i8, ptr %p1, i64 %s8o
  %s11o = mul nsw i64 %i6, 64
  %s11 = getelementptr i8, ptr %p2, i64 %s11o
  %v7 = load <16 x i32>, ptr %local5, align 4
  %v9 = load i32, ptr %s8, align 1
  %v10 = xor i32 %v9, -2139062144
  %v12 = load <16 x i32>, ptr %s11, align 4
  %v13 = insertelement <16 x i32> poison, i32 %v10, i64 0
  %v14 = shufflevector <16 x i32> %v13, <16 x i32> poison, <16 x i32> zeroinitializer
  %v15 = bitcast <16 x i32> %v14 to <64 x i8>
  %v16 = bitcast <16 x i32> %v12 to <64 x i8>
  %v17 = call <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32> %v7, <64 x i8> %v15, <64 x i8> %v16)
  store <16 x i32> %v17, ptr %local5, align 4
  %v18 = load <16 x i32>, ptr %v2, align 4
  %v19 = getelementptr i8, ptr %s8, i64 8
  %v20 = load i32, ptr %v19, align 1
  %v21 = xor i32 %v20, -2139062144
  %v22 = insertelement <16 x i32> poison, i32 %v21, i64 0
  %v23 = shufflevector <16 x i32> %v22, <16 x i32> poison, <16 x i32> zeroinitializer
  %v24 = bitcast <16 x i32> %v23 to <64 x i8>
  %v25 = bitcast <16 x i32> %v12 to <64 x i8>
  %v26 = call <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32> %v18, <64 x i8> %v24, <64 x i8> %v25)
  store <16 x i32> %v26, ptr %v2, align 4
  %v27 = load <16 x i32>, ptr %v3, align 4
  %v28 = getelementptr i8, ptr %s8, i64 16
  %v29 = load i32, ptr %v28, align 1
  %v30 = xor i32 %v29, -2139062144
  %v31 = insertelement <16 x i32> poison, i32 %v30, i64 0
  %v32 = shufflevector <16 x i32> %v31, <16 x i32> poison, <16 x i32> zeroinitializer
  %v33 = bitcast <16 x i32> %v32 to <64 x i8>
  %v34 = bitcast <16 x i32> %v12 to <64 x i8>
  %v35 = call <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32> %v27, <64 x i8> %v33, <64 x i8> %v34)
  store <16 x i32> %v35, ptr %v3, align 4
  %v36 = load <16 x i32>, ptr %v4, align 4
  %v37 = getelementptr i8, ptr %s8, i64 24
  %v38 = load i32, ptr %v37, align 1
  %v39 = xor i32 %v38, -2139062144
  %v40 = insertelement <16 x i32> poison, i32 %v39, i64 0
  %v41 = shufflevector <16 x i32> %v40, <16 x i32> poison, <16 x i32> zeroinitializer
  %v42 = bitcast <16 x i32> %v41 to <64 x i8>
  %v43 = bitcast <16 x i32> %v12 to <64 x i8>
  %v44 = call <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32> %v36, <64 x i8> %v42, <64 x i8> %v43)
  store <16 x i32> %v44, ptr %v4, align 4
  %v45 = add nuw nsw i64 %i6, 1
  %v46 = icmp ult i64 %v45, 2
  br i1 %v46, label %loop5, label %done6
done6:
  %v47 = load <16 x i32>, ptr %local5, align 4
  %v48 = sitofp <16 x i32> %v47 to <16 x float>
  %v49 = load <16 x float>, ptr %p3, align 4
  %v50 = fmul <16 x float> %v48, %v49
  %v51 = fcmp olt <16 x float> splat (float 0x0000000000000000), %v50
  %v52 = select <16 x i1> %v51, <16 x float> %v50, <16 x float> splat (float 0x0000000000000000)
  %v53 = fcmp olt <16 x float> %v52, splat (float 0x4038000000000000)
  %v54 = select <16 x i1> %v53, <16 x float> %v52, <16 x float> splat (float 0x4038000000000000)
  %v55 = call <16 x i32> @llvm.lrint.v16i32.v16f32(<16 x float> %v54)
  %v56 = add <16 x i32> %v55, splat (i32 5)
  %v57 = trunc <16 x i32> %v56 to <16 x i8>
  store <16 x i8> %v57, ptr %p4, align 1
  %v58 = load <16 x i32>, ptr %v2, align 4
  %v59 = sitofp <16 x i32> %v58 to <16 x float>
  %v60 = fmul <16 x float> %v59, %v49
  %v61 = fcmp olt <16 x float> splat (float 0x0000000000000000), %v60
  %v62 = select <16 x i1> %v61, <16 x float> %v60, <16 x float> splat (float 0x0000000000000000)
  %v63 = fcmp olt <16 x float> %v62, splat (float 0x4038000000000000)
  %v64 = select <16 x i1> %v63, <16 x float> %v62, <16 x float> splat (float 0x4038000000000000)
  %v65 = call <16 x i32> @llvm.lrint.v16i32.v16f32(<16 x float> %v64)
  %v66 = add <16 x i32> %v65, splat (i32 5)
  %v67 = trunc <16 x i32> %v66 to <16 x i8>
  %v68 = getelementptr i8, ptr %p4, i64 16
  store <16 x i8> %v67, ptr %v68, align 1
  %v69 = load <16 x i32>, ptr %v3, align 4
  %v70 = sitofp <16 x i32> %v69 to <16 x float>
  %v71 = fmul <16 x float> %v70, %v49
  %v72 = fcmp olt <16 x float> splat (float 0x0000000000000000), %v71
  %v73 = select <16 x i1> %v72, <16 x float> %v71, <16 x float> splat (float 0x0000000000000000)
  %v74 = fcmp olt <16 x float> %v73, splat (float 0x4038000000000000)
  %v75 = select <16 x i1> %v74, <16 x float> %v73, <16 x float> splat (float 0x4038000000000000)
  %v76 = call <16 x i32> @llvm.lrint.v16i32.v16f32(<16 x float> %v75)
  %v77 = add <16 x i32> %v76, splat (i32 5)
  %v78 = trunc <16 x i32> %v77 to <16 x i8>
  %v79 = getelementptr i8, ptr %p4, i64 32
  store <16 x i8> %v78, ptr %v79, align 1
  %v80 = load <16 x i32>, ptr %v4, align 4
  %v81 = sitofp <16 x i32> %v80 to <16 x float>
  %v82 = fmul <16 x float> %v81, %v49
  %v83 = fcmp olt <16 x float> splat (float 0x0000000000000000), %v82
  %v84 = select <16 x i1> %v83, <16 x float> %v82, <16 x float> splat (float 0x0000000000000000)
  %v85 = fcmp olt <16 x float> %v84, splat (float 0x4038000000000000)
  %v86 = select <16 x i1> %v85, <16 x float> %v84, <16 x float> splat (float 0x4038000000000000)
  %v87 = call <16 x i32> @llvm.lrint.v16i32.v16f32(<16 x float> %v86)
  %v88 = add <16 x i32> %v87, splat (i32 5)
  %v89 = trunc <16 x i32> %v88 to <16 x i8>
  %v90 = getelementptr i8, ptr %p4, i64 48
  store <16 x i8> %v89, ptr %v90, align 1
  ret i32 0
}
declare <16 x i32> @llvm.lrint.v16i32.v16f32(<16 x float>)
declare <16 x i32> @llvm.x86.avx512.vpdpbusd.512(<16 x i32>, <64 x i8>, <64 x i8>)

define i32 @lithe_run(ptr %arena, ptr %constants) nounwind {
entry:
  %a0_0 = getelementptr i8, ptr %constants, i64 0
  %a0_1 = getelementptr i8, ptr %arena, i64 64
  %a0_2 = getelementptr i8, ptr %constants, i64 64
  %a0_3 = getelementptr i8, ptr %constants, i64 192
  %a0_4 = getelementptr i8, ptr %arena, i64 0
  call i32 @lithe_kernel0(ptr %a0_0, ptr %a0_1, ptr %a0_2, ptr %a0_3, ptr %a0_4)
  ret i32 0
}
declare i32 @lithe_kernel0(ptr, ptr, ptr, ptr, ptr)
