define i32 @tiled(ptr noalias %p0, ptr noalias %p1, ptr noalias %p2, ptr noalias %p3, i32 %thread, i32 %threads, ptr %sync) nounwind {
entry:
  %local4 = alloca [1024 x i32], align 64
  %local5 = alloca [512 x i32], align 64
  call void @llvm.x86.ldtilecfg(ptr @tiled_tiles)
  br label %body0
body0:
  call void @llvm.x86.tileloadd64(i8 0, ptr %p0, i64 0)
  %v1 = getelementptr i8, ptr %p0, i64 64
  call void @llvm.x86.tileloadd64(i8 1, ptr %v1, i64 0)
  call void @llvm.x86.tileloadd64(i8 2, ptr %p0, i64 0)
  call void @llvm.x86.tileloadd64(i8 3, ptr %v1, i64 0)
  call void @llvm.x86.tileloadd64(i8 4, ptr %p1, i64 64)
  call void @llvm.x86.tileloadd64(i8 6, ptr %p2, i64 64)
  call void @llvm.x86.tdpbssd(i8 0, i8 4, i8 6)
  %v2 = getelementptr i8, ptr %p2, i64 1024
  call void @llvm.x86.tileloadd64(i8 7, ptr %v2, i64 64)
  call void @llvm.x86.tdpbssd(i8 1, i8 4, i8 7)
  %v3 = getelementptr i8, ptr %p1, i64 1024
  call void @llvm.x86.tileloadd64(i8 5, ptr %v3, i64 64)
  call void @llvm.x86.tdpbssd(i8 2, i8 5, i8 6)
  call void @llvm.x86.tdpbssd(i8 3, i8 5, i8 7)
  call void @llvm.x86.tilestored64(i8 0, ptr %local4, i64 128)
  %v4 = getelementptr i8, ptr %local4, i64 64
  call void @llvm.x86.tilestored64(i8 1, ptr %v4, i64 128)
  %v5 = getelementptr i8, ptr %local4, i64 2048
  call void @llvm.x86.tilestored64(i8 2, ptr %v5, i64 128)
  %v6 = getelementptr i8, ptr %local4, i64 2112
  call void @llvm.x86.tilestored64(i8 3, ptr %v6, i64 128)
  call void @llvm.x86.tileloadd64(i8 0, ptr %p0, i64 0)
  call void @llvm.x86.tileloadd64(i8 1, ptr %v1, i64 0)
  call void @llvm.x86.tileloadd64(i8 2, ptr %p0, i64 0)
  call void @llvm.x86.tileloadd64(i8 3, ptr %v1, i64 0)
  %v7 = getelementptr i8, ptr %p1, i64 2048
  call void @llvm.x86.tileloadd64(i8 4, ptr %v7, i64 64)
  call void @llvm.x86.tileloadd64(i8 6, ptr %p2, i64 64)
  call void @llvm.x86.tdpbssd(i8 0, i8 4, i8 6)
  call void @llvm.x86.tileloadd64(i8 7, ptr %v2, i64 64)
  call void @llvm.x86.tdpbssd(i8 1, i8 4, i8 7)
  %v8 = getelementptr i8, ptr %p1, i64 3072
  call void @llvm.x86.tileloadd64(i8 5, ptr %v8, i64 64)
  call void @llvm.x86.tdpbssd(i8 2, i8 5, i8 6)
  call void @llvm.x86.tdpbssd(i8 3, i8 5, i8 7)
  br label %loop9
loop9:
  %i10 = phi i64 [0, %body0], [%v17, %loop9]
  %s11o = mul nsw i64 %i10, 128
  %s11 = getelementptr i8, ptr %local4, i64 %s11o
  %s13o = mul nsw i64 %i10, 80
  %s13 = getelementptr i8, ptr %p3, i64 %s13o
  %v12 = load <16 x i32>, ptr %s11, align 4
  store <16 x i32> %v12, ptr %s13, align 4
  %v14 = getelementptr i8, ptr %s11, i64 64
  %v15 = load <4 x i32>, ptr %v14, align 4
  %v16 = getelementptr i8, ptr %s13, i64 64
  store <4 x i32> %v15, ptr %v16, align 4
  %v17 = add nuw nsw i64 %i10, 1
  %v18 = icmp ult i64 %v17, 32
  br i1 %v18, label %loop9, label %done10
done10:
  call void @llvm.x86.tilestored64(i8 0, ptr %local4, i64 128)
  call void @llvm.x86.tilestored64(i8 1, ptr %v4, i64 128)
  call void @llvm.x86.tilestored64(i8 2, ptr %v5, i64 128)
  call void @llvm.x86.tilestored64(i8 3, ptr %v6, i64 128)
  br label %loop19
loop19:
  %i20 = phi i64 [0, %done10], [%v28, %loop19]
  %s21o = mul nsw i64 %i20, 128
  %s21 = getelementptr i8, ptr %local4, i64 %s21o
  %s23o = mul nsw i64 %i20, 80
  %s23 = getelementptr i8, ptr %p3, i64 %s23o
  %v22 = load <16 x i32>, ptr %s21, align 4
  %v24 = getelementptr i8, ptr %s23, i64 2560
  store <16 x i32> %v22, ptr %v24, align 4
  %v25 = getelementptr i8, ptr %s21, i64 64
  %v26 = load <4 x i32>, ptr %v25, align 4
  %v27 = getelementptr i8, ptr %s23, i64 2624
  store <4 x i32> %v26, ptr %v27, align 4
  %v28 = add nuw nsw i64 %i20, 1
  %v29 = icmp ult i64 %v28, 32
  br i1 %v29, label %loop19, label %done20
done20:
  call void @llvm.x86.tileloadd64(i8 0, ptr %p0, i64 0)
  call void @llvm.x86.tileloadd64(i8 1, ptr %v1, i64 0)
  %v30 = getelementptr i8, ptr %p1, i64 3456
  call void @llvm.x86.tileloadd64(i8 2, ptr %v30, i64 64)
  call void @llvm.x86.tileloadd64(i8 3, ptr %p2, i64 64)
  call void @llvm.x86.tdpbssd(i8 0, i8 2, i8 3)
  call void @llvm.x86.tileloadd64(i8 4, ptr %v2, i64 64)
  call void @llvm.x86.tdpbssd(i8 1, i8 2, i8 4)
  call void @llvm.x86.tilestored64(i8 0, ptr %local5, i64 128)
  %v31 = getelementptr i8, ptr %local5, i64 64
  call void @llvm.x86.tilestored64(i8 1, ptr %v31, i64 128)
  br label %loop32
loop32:
  %i33 = phi i64 [0, %done20], [%v42, %loop32]
  %s34o = mul nsw i64 %i33, 128
  %s34 = getelementptr i8, ptr %local5, i64 %s34o
  %s37o = mul nsw i64 %i33, 80
  %s37 = getelementptr i8, ptr %p3, i64 %s37o
  %v35 = getelementptr i8, ptr %s34, i64 1280
  %v36 = load <16 x i32>, ptr %v35, align 4
  %v38 = getelementptr i8, ptr %s37, i64 5120
  store <16 x i32> %v36, ptr %v38, align 4
  %v39 = getelementptr i8, ptr %s34, i64 1344
  %v40 = load <4 x i32>, ptr %v39, align 4
  %v41 = getelementptr i8, ptr %s37, i64 5184
  store <4 x i32> %v40, ptr %v41, align 4
  %v42 = add nuw nsw i64 %i33, 1
  %v43 = icmp ult i64 %v42, 6
  br i1 %v43, label %loop32, label %done33
done33:
  call void @llvm.x86.tilerelease()
  ret i32 0
}
@tiled_tiles = internal constant [64 x i8] c"\01\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\40\00\40\00\40\00\40\00\40\00\40\00\40\00\40\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\10\10\10\10\10\10\10\10\00\00\00\00\00\00\00\00", align 64
declare void @llvm.x86.ldtilecfg(ptr)
declare void @llvm.x86.tdpbssd(i8, i8, i8)
declare void @llvm.x86.tileloadd64(i8, ptr, i64)
declare void @llvm.x86.tilerelease()
declare void @llvm.x86.tilestored64(i8, ptr, i64)
